#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# inox jail as Firecracker's jailer: what it makes, and what it says of wrong use. Needs root, and no KVM.
inox=$1 source=$2
. "$source/tests/cli/jail_lib.sh"

# --- what the jailer makes ---

new_jail
exec 9</dev/null
run env SECRET=1 "$scratch/jailer" --id "$id" --exec-file "$probe" --uid 3001 --gid 3002 --chroot-base-dir "$base" \
    -- --config-file vm.json
exec 9<&-
same "the program's exit code" 7 "$code"
times='--start-time-us [0-9]+ --start-time-cpu-us [0-9]+ --parent-cpu-time-us [0-9]+'
matches "the program's arguments" "^/firecracker --id $id $times --config-file vm.json\$" "$(one arguments)"
same "user and group" "3001 3002" "$(one user)"
same "other groups" 0 "$(one groups)"
same "environment" 0 "$(one variables)"
same "open descriptors" "0 1 2" "$(one descriptors)"
same "capabilities" 000000000 "$(one capabilities)"
same "new privileges" never "$(one new-privileges)"
same "the usual limit" "2048 2048" "$(one 'limit no-file')"
same "no limit of files' sizes" "-1 -1" "$(one 'limit fsize')"
same "what is in the root" "dev firecracker firecracker.pid run" "$(one has | sort | xargs)"
for folder in / /dev /dev/net /run; do
    same "$folder" "040700 3001 3002 0:0" "$(one "file $folder")"
done
same /dev/net/tun "020600 3001 3002 10:200" "$(one 'file /dev/net/tun')"
same /dev/kvm "020600 3001 3002 10:232" "$(one 'file /dev/kvm')"
same /dev/urandom "020600 3001 3002 1:9" "$(one 'file /dev/urandom')"
minor=$(awk '$2 == "userfaultfd" { print $1 }' /proc/misc)
same /dev/userfaultfd "${minor:+020600 3001 3002 10:}${minor:-none}" "$(one 'file /dev/userfaultfd')"
same "the program's copy" "100755 3001 3002 0:0" "$(one 'file /firecracker')"
same "the copy is no link" 1 "$(stat -c %h "$root/firecracker")"
matches "the pid file" '^[0-9]+$' "$(cat "$root/firecracker.pid")"
checks=$((checks + 1))
[ -d "$base/firecracker/$id" ] || fail "the folder stays by default"
refuses "Failed to create /dev/net/tun via mknod inside the jail: File exists (os error 17)" jailed
same "a refused second start takes nothing away" yes "$([ -e "$root/dev/net/tun" ] && echo yes)"
refuses "File exists (os error 17)" jailed --clean-up
same "also when it cleans up after itself" yes "$([ -e "$root/dev/net/tun" ] && echo yes)"

new_jail
run jailed --resource-limit fsize=2097151 --resource-limit no-file=1024 --resource-limit core=0
same "limits that are asked for" "1024 1024 2097151 2097151 0 0" \
    "$(one 'limit no-file') $(one 'limit fsize') $(one 'limit core')"
new_jail
refuses "No file descriptors available (os error 24)" jailed --resource-limit no-file=3

# What a caller prepares is there, and what it makes later, too
new_jail
mkdir -p "$root"
echo linked >"$scratch/file"
ln "$scratch/file" "$root/kernel"
mkdir "$scratch/mounted" "$root/mounted"
echo mounted >"$scratch/mounted/disk"
unshare -m sh -c 'mount --bind "$1" "$2"; shift 2; exec "$@"' sh "$scratch/mounted" "$root/mounted" \
    "$scratch/jailer" --id "$id" --exec-file "$probe" --uid 3001 --gid 3002 --chroot-base-dir "$base" \
    -- read=/kernel read=/mounted/disk >"$scratch/out" 2>"$scratch/stderr"
out=$(cat "$scratch/out")
same "a hard link made before the start" linked "$(one 'read /kernel')"
same "a mount made before the start" mounted "$(one 'read /mounted/disk')"

# --- options of inox's own ---

new_jail
echo shown >"$scratch/shown"
chmod 666 "$scratch/shown"
run jailed --bind "$scratch/shown:ro" --bind "$scratch/mounted" --device /dev/zero -- "read=$scratch/shown" \
    "read=$scratch/mounted/disk"
same "a file of the host" "shown refused" "$(one "read $scratch/shown") $(one "write $scratch/shown")"
same "a folder of the host" mounted "$(one "read $scratch/mounted/disk")"
same "a device of the host" "020600 3001 3002 1:5" "$(one 'file /dev/zero')"
refuses "is not a device file" jailed --device "$scratch/shown"

# --- namespaces and processes ---

stays
same "the caller's child is the program" "$child" "$pid"
same "the program's name" firecracker "$(cat "/proc/$pid/comm")"
same "own namespaces" "mnt yes ipc yes uts yes pid no net no user no" \
    "mnt $(own mnt) ipc $(own ipc) uts $(own uts) pid $(own pid) net $(own net) user $(own user)"
same "mounts" / "$(awk '{ print $5 }' "/proc/$pid/mountinfo")"
mkdir "$scratch/late" "$root/late"
echo late >"$scratch/late/file"
mkdir "$scratch/ns"
kill -TERM "$pid"
await "$child" "a jailed program"
same "a signal for the program" 143 "$code"

touch "$scratch/ns/net"
unshare --net="$scratch/ns/net" true
stays --netns "$scratch/ns/net"
same "the network that was asked for" "$(stat -L -c %i "$scratch/ns/net")" "$(name_of net | tr -dc 0-9)"
kill -KILL "$pid"
await "$child" "a jailed program"
umount "$scratch/ns/net"
refuses "Failed to join network namespace: netns: Invalid argument (os error 22)" jailed --netns "$scratch/file"
stays --netns new
same "a network of its own" "yes lo" "$(own net) $(sed -n 's/^ *\([a-z0-9]*\):.*/\1/p' "/proc/$pid/net/dev" | xargs)"
kill -KILL "$pid"
await "$child" "a jailed program"

# All four ways to start lead to a pid file that names the program
for way in "" --daemonize --new-pid-ns "--daemonize --new-pid-ns"; do
    # shellcheck disable=SC2086  # two options
    stays $way
    case $way in
        "") ;;
        *)
            await "$child" "the jailer"
            same "the jailer ends well with '$way'" 0 "$code"
            ;;
    esac
    case $way in
        *new-pid-ns)
            same "first process of its namespace" "$pid 1" \
                "$(awk '/^NStgid:/ { print $2, $3 }' "/proc/$pid/status")"
            ;;
        *) same "its pid in the report" "pid $pid" "$(grep ^pid "$root/report")" ;;
    esac
    case $way in --daemonize*)
        session=$(awk '{ print $6 }' "/proc/$pid/stat")
        same "in a session of its own" no \
            "$([ "$session" = "$(awk '{ print $6 }' /proc/self/stat)" ] && echo yes || echo no)"
        same "without the caller's terminal" "/dev/null /dev/null /dev/null" \
            "$(for fd in 0 1 2; do readlink "/proc/$pid/fd/$fd"; done | xargs)"
        ;;
    esac
    same "SIGKILL reaches it" 0 "$(kill -KILL "$pid"; echo $?)"
    eventually gone "$pid" || fail "'$way': the program does not end"
    [ -n "$way" ] || await "$child" "a jailed program"
done

stays --user-ns
same "a user namespace with one user" "3001 3001 1" "$(xargs <"/proc/$pid/uid_map")"
same "and no capability in it" 0000000000000000 "$(awk '/^CapEff:/ { print $2 }' "/proc/$pid/status")"
kill -KILL "$pid"
await "$child" "a jailed program"

# --- cleaning up ---

for way in "" --daemonize --new-pid-ns "--daemonize --new-pid-ns"; do
    # shellcheck disable=SC2086  # two options
    stays --clean-up $way
    kill -KILL "$pid"
    until_no test -e "$base/firecracker/$id"
done
new_jail
run jailed --clean-up
same "an end in order with --clean-up" 7 "$code"
until_no test -e "$base/firecracker/$id"

# Nothing of others goes with it
stays --clean-up
mkdir "$scratch/precious"
echo precious >"$scratch/precious/file"
ln -s "$scratch/precious" "$root/link"
mkdir "$root/bound"
mount --bind "$scratch/precious" "$root/bound"
kill -KILL "$pid"
await "$child" "a jailed program"
eventually test ! -e "$root/firecracker" || fail "--clean-up removes nothing"
sleep 0.2
same "what a link and a mount show" "precious" "$(cat "$scratch/precious/file" 2>&1)"
umount "$root/bound"

# --- wrong use ---

new_jail
none=$base/firecracker/$id
refuses "Invalid instance ID: Invalid len (0);  the length must be between 1 and 64" "$scratch/jailer" --id "" \
    --exec-file "$probe" --uid 1 --gid 1 --chroot-base-dir "$base"
refuses "Invalid instance ID: Invalid char (_) at position 2" "$scratch/jailer" --id vm_1 --exec-file "$probe" \
    --uid 1 --gid 1 --chroot-base-dir "$base"
refuses "Failed to canonicalize path /nonexistent: No such file or directory (os error 2)" "$scratch/jailer" \
    --id a --exec-file /nonexistent --uid 1 --gid 1 --chroot-base-dir "$base"
refuses "/tmp is not a file" "$scratch/jailer" --id a --exec-file /tmp --uid 1 --gid 1 --chroot-base-dir "$base"
refuses "is not a directory" "$scratch/jailer" --id a --exec-file "$probe" --uid 1 --gid 1 --chroot-base-dir "$probe"
refuses "Failed to canonicalize path /nonexistent: " "$scratch/jailer" --id a --exec-file "$probe" --uid 1 --gid 1 \
    --chroot-base-dir /nonexistent
refuses "Invalid uid: x" "$scratch/jailer" --id a --exec-file "$probe" --uid x --gid 1 --chroot-base-dir "$base"
refuses "Invalid gid: 4294967296" "$scratch/jailer" --id a --exec-file "$probe" --uid 1 --gid 4294967296 \
    --chroot-base-dir "$base"
for option in id exec-file uid gid; do
    given=(--id a --exec-file "$probe" --uid 1 --gid 1 --chroot-base-dir "$base")
    for i in "${!given[@]}"; do
        [ "${given[$i]}" != "--$option" ] || unset "given[$i]" "given[$((i + 1))]"
    done
    refuses "Failed to parse arguments: Argument '$option' required, but not found." "$scratch/jailer" "${given[@]}"
done
refuses "Failed to parse arguments: Found argument 'nonsense' which wasn't expected" jailed --nonsense
refuses "Failed to parse arguments: The argument 'netns' requires a value, but none was supplied." jailed --netns
refuses "Failed to parse arguments: The argument 'id' was provided more than once." jailed --id again
refuses "Invalid format for cgroups: memory.max" jailed --cgroup memory.max
refuses "Invalid format for cgroups: memory.max=" jailed --cgroup memory.max=
refuses "Invalid format for cgroups: a.b=c=d" jailed --cgroup a.b=c=d
refuses "Cgroup invalid file: ../memory.max" jailed --cgroup ../memory.max=1
refuses "Cgroup invalid file: memory" jailed --cgroup memory=1
refuses "3 is an invalid cgroup version specifier" jailed --cgroup-version 3
for parent in /a a/../b ./a ""; do
    refuses "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'" jailed \
        --parent-cgroup "$parent"
done
refuses "Controller nonsense is unavailable" jailed --cgroup nonsense.max=1
refuses "Invalid format for resources limits: fsize" jailed --resource-limit fsize
refuses "Invalid resource argument: nonsense" jailed --resource-limit nonsense=1
refuses "Invalid limit value for resource: x: invalid digit found in string" jailed --resource-limit fsize=x
refuses "Failed to open file /nonexistent: No such file or directory (os error 2)" jailed --netns /nonexistent
same "a refused start makes no jail" no "$([ -e "$none/root/dev/net" ] && echo yes || echo no)"
refuses "'--pid-file' is for inox run alone" jailed --pid-file x
refused 153 bad_option "'--chroot-base-dir' is for a program that --exec-file names" "leave it out" "$inox" jail \
    --chroot-base-dir / -- run
refuses "Argument 'keep' cannot be used together with argument 'clean-up'" jailed --keep --clean-up
refuses "only inox run can be jailed" "$inox" jail -- host
accepted "Jailer v" "$scratch/jailer" --version
accepted "--parent-cgroup PATH" "$scratch/jailer" --help
accepted "Usage: inox jail" "$inox" jail --help

# What another user put into the folder before does not lead the copy elsewhere
new_jail
mkdir -p "$root"
ln -s "$scratch/precious/file" "$root/firecracker"
refuses "Failed to open $root/firecracker: Symbolic link loop (os error 40)" jailed
new_jail
mkdir -p "$root"
ln "$scratch/precious/file" "$root/firecracker"
refuses "Detected hard link at: $root/firecracker" jailed
new_jail
mkdir -p "$base/firecracker/$id"
ln -s "$scratch/precious" "$root"
refuses "Failed to create directory" jailed
same "the file behind these links" precious "$(cat "$scratch/precious/file")"
finish
