#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Control groups of a jail, of both versions as far as this host has them, and what is left of jails that are killed at
# any moment. Needs root, and no KVM.
inox=$1 source=$2
. "$source/tests/cli/jail_lib.sh"

# mount_of TYPE CONTROLLER: where that hierarchy is, if groups can be made there
mount_of() {
    local point
    point=$(awk -v type="$1" -v name="$2" \
        '$3 == type && (name == "" || index("," $4 ",", "," name ",")) { print $2; exit }' /proc/mounts)
    [ -n "$point" ] && mkdir "$point/inox-test.$$" 2>/dev/null && rmdir "$point/inox-test.$$" && echo "$point"
}
of_pid() { sed -n "s/^[0-9]*:$1://p" "/proc/$pid/cgroup"; }
ends() {
    kill -KILL "$pid"
    await "$child" "a jailed program"
}
parent=inox-test-$$

unified=$(mount_of cgroup2 '')
if [ -n "$unified" ]; then
    # A value that every group has, without a controller
    stays --cgroup-version 2 --parent-cgroup "$parent/second" --cgroup cgroup.max.depth=7 \
        --cgroup cgroup.max.descendants=3
    group=$unified/$parent/second/$id
    same "version 2: the values" "7 3" "$(cat "$group/cgroup.max.depth" "$group/cgroup.max.descendants" | xargs)"
    same "version 2: who is in it" "$pid" "$(xargs <"$group/cgroup.procs")"
    ends
    same "version 2: it stays" yes "$([ -d "$group" ] && echo yes)"
    rmdir "$group"

    # Without a value the parent is joined if it is there
    stays --cgroup-version 2 --parent-cgroup "$parent/second"
    same "version 2: the parent that exists" "/$parent/second" "$(of_pid '')"
    ends
    stays --cgroup-version 2 --parent-cgroup "$parent/none"
    same "version 2: no parent" no "$([ -d "$unified/$parent/none" ] && echo yes || echo no)"
    ends
    rmdir "$unified/$parent/second" "$unified/$parent"

    read -ra controllers <"$unified/cgroup.controllers"
    for controller in "${controllers[@]}"; do
        case $controller in
            cpu) value=cpu.weight=77 ;;
            memory) value=memory.max=1073741824 ;;
            pids) value=pids.max=77 ;;
            hugetlb) value=hugetlb.2MB.max=0 ;;
            *) continue ;;
        esac
        stays --cgroup-version 2 --parent-cgroup "$parent" --cgroup "$value" --clean-up
        same "version 2: $value" "${value#*=}" "$(cat "$unified/$parent/$id/${value%%=*}" 2>&1)"
        same "version 2: $controller is handed down" 1 \
            "$(grep -cw "$controller" "$unified/$parent/cgroup.subtree_control")"
        ends
        until_no test -e "$unified/$parent"
    done
    # A process in a group keeps it from handing controllers down
    if grep -qw hugetlb "$unified/cgroup.controllers"; then
        mkdir "$unified/$parent"
        echo +hugetlb >"$unified/cgroup.subtree_control"
        echo +hugetlb >"$unified/$parent/cgroup.subtree_control"
        new_jail
        refuses "Failed to move process to cgroup ($unified/$parent): Resource busy (os error 16)." jailed \
            --cgroup-version 2 --parent-cgroup "$parent"
        shows "If you intended to create a child cgroup under $unified/$parent, pass any --cgroup parameters."
        rmdir "$unified/$parent"
    fi
    new_jail
    refuses "Controller nonsense is unavailable" jailed --cgroup-version 2 --cgroup nonsense.max=1
    refuses "Failed to write to $unified/$parent/$id/cgroup.max.depth: Invalid argument (os error 22)" jailed \
        --cgroup-version 2 --parent-cgroup "$parent" --cgroup cgroup.max.depth=x --clean-up
    until_no test -e "$unified/$parent"
    # Groups that were there before stay
    mkdir "$unified/$parent"
    stays --cgroup-version 2 --parent-cgroup "$parent" --cgroup cgroup.max.depth=7 --clean-up
    ends
    until_no test -e "$unified/$parent/$id"
    sleep 0.1
    same "version 2: a parent of others" yes "$([ -d "$unified/$parent" ] && echo yes)"
    rmdir "$unified/$parent"
else
    echo "not checked: control groups of version 2, which cannot be made here"
fi

pids=$(mount_of cgroup pids) cpuset=$(mount_of cgroup cpuset)
if [ -n "$pids" ]; then
    stays --parent-cgroup "$parent/second" --cgroup pids.max=55 --clean-up
    same "version 1: the value" 55 "$(cat "$pids/$parent/second/$id/pids.max")"
    same "version 1: who is in it" "/$parent/second/$id" "$(of_pid pids)"
    ends
    until_no test -e "$pids/$parent"
    new_jail
    refuses "Controller nonsense is unavailable" jailed --cgroup nonsense.max=1
else
    echo "not checked: control groups of version 1, which cannot be made here"
fi
if [ -n "$cpuset" ]; then
    stays --parent-cgroup "$parent" --cgroup cpuset.cpus=0 --clean-up
    same "version 1: an inherited value" "0 $(cat "$cpuset/cpuset.mems")" \
        "$(cat "$cpuset/$parent/$id/cpuset.cpus" "$cpuset/$parent/$id/cpuset.mems" | xargs)"
    ends
    until_no test -e "$cpuset/$parent"
fi
[ -n "$pids$unified" ] || { echo "skipped: no control group can be made here"; exit 77; }

# --- killed at any moment ---

if [ -n "$pids" ]; then groups=(--cgroup pids.max=55) top=$pids; else
    groups=(--cgroup-version 2 --cgroup cgroup.max.depth=7) top=$unified
fi
mounts=$(wc -l </proc/self/mountinfo)
RANDOM=4711
rounds=40 killed=0
for ((round = 0; round < rounds; round++)); do
    new_jail
    way=("" --new-pid-ns)
    # shellcheck disable=SC2086  # nothing, or an option
    "$scratch/jailer" --id "$id" --exec-file "$probe" --uid 3001 --gid 3002 --chroot-base-dir "$base" --clean-up \
        --parent-cgroup "$parent" "${groups[@]}" --netns new ${way[round % 2]} -- stay >/dev/null 2>&1 &
    child=$!
    started+=("$child")
    sleep 0.0$((RANDOM % 10))$((RANDOM % 10))
    pid=$(cat "$root/firecracker.pid" 2>/dev/null)
    kill -KILL "$child" 2>/dev/null && killed=$((killed + 1))
    wait "$child" 2>/dev/null
    # The jailer with --new-pid-ns leaves the program behind: a start that was not over has none
    if [ ${#way[round % 2]} != 0 ]; then
        sleep 0.05
        pid=$(cat "$root/firecracker.pid" 2>/dev/null)
        [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
    fi
done
for ((n = count - rounds + 1; n <= count; n++)); do
    until_no test -e "$base/firecracker/vm-$n"
done
until_no test -e "$top/$parent"
until_no pgrep -f "$scratch/jailer"
same "no mount is left" "$mounts" "$(wc -l </proc/self/mountinfo)"
echo "killed $killed of $rounds jails on their way"
finish
