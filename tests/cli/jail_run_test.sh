#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# inox jail -- run: what the guest's process sees, what its end leaves, and kills at any moment. Needs root; most of it
# needs a guest, and so a KVM.
inox=$1 source=$2
. "$source/tests/cli/jail_lib.sh"
chmod 755 "$scratch"
mkdir "$scratch/out" "$scratch/disks"
chown 3001 "$scratch/out"
jail() { "$inox" jail --uid 3001 --gid 3002 "$@"; }

refused 153 bad_option "--memory" "" jail -- run --memory nonsense
refused 153 bad_option "Invalid uid: x" "" "$inox" jail --uid x -- run
refused 153 bad_option "a jail cannot show the whole root" "name folders" jail -- run --kernel "$scratch/none" --root /
refused 125 unsupported "--id: a guest in a jail is not in the list of inox ps" "--api-sock" jail -- run --id vm1
refused 125 unsupported "--config: a jail reads its configuration twice" "name a file" jail -- run --config -
refused 100 kernel_missing "$scratch/none" "" jail -- run --kernel "$scratch/none"
echo nothing >"$scratch/text"
refused 101 kernel_invalid "$scratch/text" "" jail -- run --kernel "$scratch/text"
chmod 600 "$scratch/text"
refused 100 kernel_missing "Permission denied" "" jail -- run --kernel "$scratch/text"
accepted "--memory SIZE" jail -- run --help
mounts=$(wc -l </proc/self/mountinfo)

if [ ! -w /dev/kvm ]; then
    refused 115 kvm_missing "/dev/kvm" "" jail -- run
    finish
fi
guest=$(dirname "$inox")/tests/kvm/guests/idle
[ -e "$guest" ] || { echo 'the guests are not built'; finish; }
run jail -- run
same "the built-in guest" "0 yes" "$code $(grep -q 'Hello from inox' <<<"$out" && echo yes)"

# A group of its own, where this host has any
group=() top='' parent=inox-test-$$
for try in "pids:--cgroup pids.max=40 --cgroup-version 1" ":--cgroup cgroup.max.depth=7 --cgroup-version 2"; do
    type=cgroup
    [ "${try%%:*}" ] || type=cgroup2
    point=$(awk -v type=$type -v name="${try%%:*}" \
        '$3 == type && (name == "" || index("," $4 ",", "," name ",")) { print $2; exit }' /proc/mounts)
    if [ -n "$point" ] && mkdir "$point/$parent" 2>/dev/null && rmdir "$point/$parent"; then
        top=$point
        read -ra group <<<"--parent-cgroup $parent ${try#*:}"
        break
    fi
done
[ -n "$top" ] || echo "not checked: control groups, which cannot be made here"

# starts OPTION... -- OPTION...: a guest that stays; $outer, $first and $vmm are its processes
starts() {
    local jail_options=()
    while [ "$1" != -- ]; do jail_options+=("$1"); shift; done
    shift
    "$inox" jail --uid 3001 --gid 3002 "${group[@]}" "${jail_options[@]}" -- run --kernel "$guest" --memory 16M \
        --api-sock "$scratch/out/api" "$@" >"$scratch/serial" 2>"$scratch/stderr" </dev/null &
    outer=$!
    started+=("$outer")
    eventually test -S "$scratch/out/api" || fail "the guest did not start: $(cat "$scratch/stderr")"
    find_processes
}
find_processes() {
    first=$(pgrep -P "$outer" | head -n 1)
    vmm=$(pgrep -P "$first" | head -n 1)
    pid=$vmm
}
field() { awk -v key="$1:" '$1 == key { sub(/^[^\t]*\t/, ""); print; exit }' "/proc/$vmm/status" | xargs; }
own() { [ "$(readlink "/proc/$vmm/ns/$1")" = "$(readlink "/proc/self/ns/$1")" ] && echo no || echo yes; }

# Of the last jail, whether anything is left
left() {
    local one
    for one in $first $vmm; do ! kill -0 "$one" 2>/dev/null || return 0; done
    [ -e "$scratch/out/api" ] || { [ -n "$top" ] && [ -e "$top/$parent" ]; } || pgrep -f "$inox jail.*$scratch"
}

truncate -s 1M "$scratch/disks/one" "$scratch/disks/late"
chown 3001 "$scratch/disks/late"
starts -- --disk "path=$scratch/disks/one,readonly=on" --allow "$scratch/disks"
same "user and groups" "3001 3001 3001 3001 3002 3002 3002 3002" "$(field Uid) $(field Gid)"
same "other groups" "" "$(field Groups)"
same "capabilities" "0000000000000000 0000000000000000" "$(field CapEff) $(field CapPrm)"
same "no new privileges" 1 "$(field NoNewPrivs)"
same "the second process of its namespace" "$vmm 2" "$(field NSpid | awk '{ print $(NF - 1), $NF }')"
same "a session of its own" "$vmm" "$(cut -d' ' -f6 "/proc/$vmm/stat")"
same "own namespaces" "mnt yes ipc yes uts yes pid yes net no user no" \
    "mnt $(own mnt) ipc $(own ipc) uts $(own uts) pid $(own pid) net $(own net) user $(own user)"
same "none of /etc, /usr, /root, /home" "" "$(for one in etc usr root home var; do
    [ ! -e "/proc/$vmm/root/$one" ] ||
        find "/proc/$vmm/root/$one" -type f | grep -v -F -e "$guest" -e "$scratch" | head -n 1
done)"
same "its devices" "fd kvm null random stderr stdin stdout urandom zero" \
    "$(find "/proc/$vmm/root/dev" -mindepth 1 ! -name userfaultfd -printf '%f\n' | sort | xargs)"
same "whose they are" "3001 3002 600" "$(stat -c '%u %g %a' "/proc/$vmm/root/dev/kvm")"
same "its processes" "1 2 3" "$(cd "/proc/$vmm/root/proc" && echo [0-9]*)"
same "files it only reads" ro "$(awk -v path="$guest" '$5 == path { print substr($6, 1, 2) }' "/proc/$vmm/mountinfo")"
[ -z "$top" ] || same "its control group" "/$parent/" "$(grep -o "/$parent/" "/proc/$vmm/cgroup" | head -n 1)"
accepted "" "$inox" ctl -s "$scratch/out/api" status
accepted "" "$inox" ctl -s "$scratch/out/api" pause # this guest knows no interrupts
accepted "" "$inox" ctl -s "$scratch/out/api" add-disk late "$scratch/disks/late"
kill -TERM "$outer"
await "$outer" "the jail"
same "SIGTERM for the guest" 143 "$code"
checks=$((checks + 1))
! left >/dev/null || fail "a jail that ended in order leaves $(ls "$scratch/out" "$top/$parent" 2>/dev/null)"

# A snapshot, from one jail to the next
starts -- --allow "$scratch/out" --disk "path=$scratch/disks/one,readonly=on"
accepted "" "$inox" ctl -s "$scratch/out/api" snapshot "$scratch/out/snap"
kill -TERM "$outer"
await "$outer" "the jail"
until_no left
"$inox" jail --uid 3001 --gid 3002 -- run --from "$scratch/out/snap" --disk "id=drive0,path=$scratch/disks/one" \
    --api-sock "$scratch/out/api" >"$scratch/serial" 2>"$scratch/stderr" </dev/null &
outer=$!
started+=("$outer")
eventually test -S "$scratch/out/api" || fail "the guest was not restored: $(cat "$scratch/stderr")"
find_processes
running() { "$inox" ctl -s "$scratch/out/api" status | grep -q Running; }
eventually running || true # the API comes first
accepted "Running" "$inox" ctl -s "$scratch/out/api" status
same "the memory that it maps is read-only there" ro \
    "$(awk -v path="$scratch/out/snap" '$5 == path { print substr($6, 1, 2) }' "/proc/$vmm/mountinfo")"
kill -TERM "$outer"
await "$outer" "the jail"
until_no left

starts --user-ns --netns new --
same "user namespace, network namespace" "yes yes" "$(own user) $(own net)"
same "its map" "3001 3001 1" "$(xargs <"/proc/$vmm/uid_map")"
kill -INT "$outer"
await "$outer" "the jail"
same "SIGINT for the guest" 130 "$code"

# What inox starts is in the jail, too
mkdir "$scratch/shared"
helpers=(--share "tag=t,path=$scratch/shared,ro=on")
! command -v passt >/dev/null ||
    ! setpriv --reuid 3001 --regid 3002 --clear-groups unshare -U true 2>/dev/null || helpers+=(--net user)
# A helper that ended is started again when the guest uses its device, which this one does not: then another jail
all_started() { [ "$(pgrep -c -P "$broker")" = "$((${#helpers[@]} / 2))" ]; }
for try in 1 2 3; do
    starts -- "${helpers[@]}"
    broker=$(pgrep -P "$vmm")
    end=$((SECONDS + 20))
    until all_started || [ $SECONDS -ge $end ]; do sleep 0.1; done
    ! all_started && [ $try -lt 3 ] || break
    echo "jail $try has not started all of ${helpers[*]}:"
    ps --ppid 2 -p 2 --deselect -o pid,ppid,uid,stat,comm
    cat "$scratch/stderr"
    kill -TERM "$outer"
    await "$outer" "the jail"
    until_no left
done
same "what inox starts" "$((${#helpers[@]} / 2))" "$(pgrep -c -P "$broker")"
for helper in "$broker" $(pgrep -P "$broker"); do
    same "$(cat "/proc/$helper/comm"): user" 3001 "$(awk '/^Uid:/ { print $2 }' "/proc/$helper/status")"
done
same "the broker's processes" "$(readlink "/proc/$vmm/ns/pid")" "$(readlink "/proc/$broker/ns/pid")"
kill -TERM "$outer"
await "$outer" "the jail"
until_no left

for victim in outer first vmm; do
    starts --
    kill -KILL "${!victim}"
    await "$outer" "the jail"
    same "the code when $victim is killed" 137 "$code"
    until_no left
done

run jail --daemonize --pid-file "$scratch/pid" "${group[@]}" -- run --kernel "$guest" --memory 16M \
    --api-sock "$scratch/out/api"
same "in the background" 0 "$code"
outer=$(cat "$scratch/pid")
started+=("$outer")
eventually test -S "$scratch/out/api"
find_processes
kill -TERM "$outer"
eventually gone "$outer" || fail "a jail in the background does not end"
until_no left
until_no test -e "$scratch/pid"
refused 118 host_error "Failed to open file /nonexistent" "" jail --daemonize --netns /nonexistent -- run

if setpriv --reuid 3001 --regid 3002 --clear-groups unshare -Urm true 2>/dev/null; then
    # Who is not root gets a user namespace, and the host's /dev/kvm: here one that everybody may use
    mknod -m 666 "$scratch/kvm" c 10 232
    run unshare -m sh -c 'mount --bind "$1" /dev/kvm; shift; exec "$@"' sh "$scratch/kvm" \
        setpriv --reuid 3001 --regid 3002 --clear-groups "$inox" jail -- run
    [ "$code" = 0 ] || fail "a jail of a user who is not root should work"
    checks=$((checks + 1))
else
    echo "not checked: a jail of another user than root, for lack of user namespaces here"
fi

# --- killed at any moment ---

RANDOM=815
rounds=${INOX_JAIL_KILLS:-30} killed=0
for ((round = 0; round < rounds; round++)); do
    rm -f "$scratch/out/api"
    "$inox" jail --uid 3001 --gid 3002 "${group[@]}" --pid-file "$scratch/pid" --netns new \
        -- run --kernel "$guest" --memory 16M --api-sock "$scratch/out/api" >/dev/null 2>&1 </dev/null &
    outer=$!
    started+=("$outer")
    sleep 0.$((RANDOM % 2))$((RANDOM % 10))$((RANDOM % 10))
    find_processes
    case $((RANDOM % 3)) in 0) victim=$outer ;; 1) victim=${first:-$outer} ;; *) victim=${vmm:-$outer} ;; esac
    kill -KILL "$victim" 2>/dev/null && killed=$((killed + 1))
    wait "$outer" 2>/dev/null
    until_no left
    until_no test -e "$scratch/pid"
done
same "no mount is left" "$mounts" "$(wc -l </proc/self/mountinfo)"
echo "killed $killed processes of $rounds jails at random moments"
finish
