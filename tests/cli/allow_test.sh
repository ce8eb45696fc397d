# SPDX-License-Identifier: Apache-2.0
# What a run can open once its guest runs; sockets that its launcher opened.
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || { echo 'python3 is missing'; exit 77; }
sock=$scratch/sock
vmm=
trap '[ -z "$vmm" ] || kill -KILL "$vmm" 2>/dev/null; rm -rf "$scratch"' EXIT
ctl() { "$inox" ctl -s "$sock" "$@"; }
answers() { ctl status; }
is() {
    local text=$1
    shift
    checks=$((checks + 1))
    code='' out='' err=$(tail -n 3 "$scratch/log" 2>/dev/null)
    "$@" >/dev/null 2>&1 || fail "$text"
}
leave() {
    kill "$vmm" 2>/dev/null
    await "$vmm" 'the VMM'
    vmm=
}

# given_a_socket PID COMMAND...: runs it with a listening socket as descriptor 3, as a service manager does; LISTEN_PID
# is its own for "own"
cat >"$scratch/activate.py" <<'END'
import os, socket, sys
path, count, pid, *command = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(8)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
if count != "0":
    os.environ.update(LISTEN_FDS=count, LISTEN_PID=str(os.getpid()) if pid == "own" else pid)
os.execv(command[0], command)
END
activate() { exec python3 "$scratch/activate.py" "$sock" "$@"; }

# An API on a socket that is there already, by its number and by the service manager's words
for start in '0 x --api-sock fd:3' '1 own'; do
    read -r count pid arguments <<<"$start"
    # shellcheck disable=SC2086 # words
    activate "$count" "$pid" "$inox" --enable-pci $arguments 2>"$scratch/log" >/dev/null </dev/null &
    vmm=$!
    is "Firecracker's mode serves on descriptor 3 ($start)" eventually answers
    leave
    is "the socket's file stays with who made it ($start)" test -S "$sock"
    rm -f "$sock"
done
refused 153 bad_option 'descriptor 3 is not a unix stream socket that listens' 'listen' \
    "$inox" --api-sock fd:3 3</dev/null
refused 153 bad_option 'descriptor 9 is not' '' "$inox" run --api-sock fd:9
refused 153 bad_option 'hands over 2 sockets' 'fd:N' \
    bash -c 'export LISTEN_FDS=2 LISTEN_PID=$$; exec "$0" run --timeout 1s' "$inox"

guests=$(dirname "$inox")/tests/kvm/guests
[ -w /dev/kvm ] && [ -e "$guests/echo" ] || { echo 'the rest needs /dev/kvm and guests'; finish; }
mkdir "$scratch/pool"
truncate -s 1M "$scratch/disk" "$scratch/other" "$scratch/pool/one"
ln -s ../other "$scratch/pool/way"
mkfifo "$scratch/input"
exec 8<>"$scratch/input" # never ends

# starts OPTION...: a guest that waits for input
starts() {
    rm -f "$sock"
    "$inox" run --kernel "$guests/${kernel:-echo}" --memory 16M --api-sock "$sock" --timeout 900s "$@" \
        <"$scratch/input" >"$scratch/out" 2>"$scratch/log" &
    vmm=$!
    is "the guest runs with $*" eventually guest_runs
}
guest_runs() { ctl --json status | grep -q Running; }

starts --disk "path=$scratch/disk,id=first" --result "$scratch/result.json" --exits "$scratch/exits" \
    --seccomp off --allow "$scratch/pool" --vsock "cid=3,uds=$scratch/vsock" --gdb "unix:$scratch/gdb,wait=off"
refused 86 not_allowed "$scratch/other" '--allow' ctl add-disk second "$scratch/other"
refused 86 not_allowed way '--allow' ctl add-disk second "$scratch/pool/way"
refused 86 not_allowed other '--allow' ctl add-disk second "$scratch/pool/../other"
refused 86 not_allowed dump '--allow' ctl dump "$scratch/dump"
accepted '' ctl add-disk second "$scratch/pool/one"
accepted '' ctl remove --force second
accepted '' ctl dump "$scratch/pool/dump"
is 'the dump is there' test -s "$scratch/pool/dump"
broker=$(pgrep -P "$vmm")
is 'one process opens files for it' test "$(wc -w <<<"$broker")" = 1
for task in /proc/"$vmm"/task/*; do
    is "$(cat "$task/comm") gets no new privileges" grep -q '^NoNewPrivs:.1' "$task/status"
done
# What code that runs in a thread of inox can open, whatever inox itself would do; without the lists of system calls,
# some of which do not even have the call
landlock=$(python3 -c 'import ctypes; print(ctypes.CDLL(None).syscall(444, None, 0, 1))')
if [ "$landlock" -gt 0 ] && [ "$(id -u)" = 0 ]; then
    python=$(python3 -c 'import sys; print(sys.executable)')
    files=("$scratch/other" "$scratch/disk" "$guests/echo" /etc/hostname /etc/passwd "$scratch" /dev/null /dev/kvm)
    "$python" "$source/tests/cli/open_in.py" "$vmm" 0 "${files[@]}" >"$scratch/opened" 2>&1
    # O_RDWR | O_CREAT
    "$python" "$source/tests/cli/open_in.py" "$vmm" 66 "$scratch/made" "${files[@]}" >>"$scratch/opened" 2>&1
    code='' err='' out=$(grep -v 'EACCES$\|ENOENT$\|EISDIR$\|EROFS$' "$scratch/opened")
    checks=$((checks + 1))
    [ -z "$out" ] || fail 'no thread should open a file'
    for name in vcpu0 api inox; do
        is "$name tried" grep -q "^$name $scratch/other EACCES" "$scratch/opened"
    done
    is 'nothing was made' test ! -e "$scratch/made"
    # What it can: docs/confinement.md lists it
    "$python" "$source/tests/cli/open_in.py" "$vmm" 0 /proc/version /proc/1/environ /sys/fs/cgroup /sys/class/net \
        >"$scratch/reach" 2>&1
    for name in vcpu0 inox; do
        is "$name reads what the kernel says of itself" grep -q "^$name /proc/version open" "$scratch/reach"
        is "$name reads nothing of other processes" grep -q "^$name /proc/1/environ E" "$scratch/reach"
        is "$name sees no devices of the host" grep -q "^$name /sys/class/net E" "$scratch/reach"
    done
fi
leave
is 'the result was written' grep -q exit_code "$scratch/result.json"
is 'and the exits' test -s "$scratch/exits"
for made in "$sock" "$scratch/vsock" "$scratch/gdb"; do
    is "$made is gone" test ! -e "$made"
done
is 'the broker is gone' gone "$broker"

# A guest by its id, on a socket of its launcher
rm -f "$sock"
XDG_RUNTIME_DIR=$scratch activate 1 own "$inox" run --id activated --kernel "$guests/echo" --memory 16M --timeout 900s \
    2>"$scratch/log" >/dev/null <"$scratch/input" &
vmm=$!
is 'a guest serves on the socket of its launcher' eventually guest_runs
is 'and is found by its id' env "XDG_RUNTIME_DIR=$scratch" "$inox" ctl activated status
leave
is 'the file of its id is gone' test -z "$(find "$scratch/inox" -name 'activated*')"
rm -f "$sock"

# kill -9 leaves no broker behind
starts
broker=$(pgrep -P "$vmm")
kill -KILL "$vmm"
wait "$vmm" 2>/dev/null
vmm=
is 'the broker ends with a process that is killed' eventually gone "$broker"
rm -f "$sock"

# Ctrl-C for the whole group: the broker is needed to the end
set -m
starts --result "$scratch/result2.json"
set +m
kill -INT -- "-$vmm"
await "$vmm" 'the VMM'
vmm=
is 'a signal for the group leaves the broker its work' grep -q interrupted "$scratch/result2.json"
is 'and the socket is removed' test ! -e "$sock"

# A reboot opens everything again
run "$inox" run --kernel "$guests/echo" --memory 16M --disk "path=$scratch/disk" --on-reboot restart --timeout 3s
checks=$((checks + 1))
[ "$code" = 124 ] || fail 'a guest that may restart should run to its time limit'

# What is added interrupts a guest that halts, and a guest without an IDT goes on: it masks that
kernel=idle starts --allow "$scratch/pool" --allow /dev/net/tun
accepted '' ctl add-disk second "$scratch/pool/one"
tap=inoxallow$((BASHPID % 100000))
if ip tuntap add dev "$tap" mode tap 2>/dev/null; then
    ip tuntap delete dev "$tap" mode tap
    accepted '' ctl add-net third "$tap"
fi
sleep 1.5 # it is reminded after a second
is 'the guest goes on' guest_runs
leave

# A run that opens nothing later has no broker
"$inox" run --kernel "$guests/echo" --memory 16M --disk "path=$scratch/disk" --timeout 900s <"$scratch/input" \
    >"$scratch/out" 2>"$scratch/log" &
vmm=$!
runs() { [ -e "/proc/$vmm/task" ] && cat "/proc/$vmm"/task/*/comm | grep -q vcpu; }
is 'it runs' eventually runs
is 'without a broker' test -z "$(pgrep -P "$vmm")"
leave

# In Firecracker's mode a client names what it likes, unless --allow says otherwise
api() { curl -s --max-time 60 --unix-socket "$sock" -X "$1" -d "$3" "http://localhost$2"; }
firecracker() {
    rm -f "$sock"
    printf '{"boot-source": {"kernel_image_path": "%s"}, "machine-config": {"vcpu_count": 1, "mem_size_mib": 32},
        "drives": [{"drive_id": "d", "path_on_host": "%s", "is_root_device": false}]}' \
        "$guests/echo" "$scratch/disk" >"$scratch/vm.json"
    "$inox" --api-sock "$sock" --enable-pci --config-file "$scratch/vm.json" "$@" <"$scratch/input" >"$scratch/out" \
        2>"$scratch/log" &
    vmm=$!
    is "the guest runs with $*" eventually guest_runs
}
if command -v curl >/dev/null; then
    python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$scratch/left"
    firecracker
    is 'any image by PATCH' test -z \
        "$(api PATCH /drives/d "{\"drive_id\": \"d\", \"path_on_host\": \"$scratch/other\"}")"
    leave
    firecracker --allow "$scratch/pool"
    is 'not any image with --allow' test -n \
        "$(api PATCH /drives/d "{\"drive_id\": \"d\", \"path_on_host\": \"$scratch/other\"}")"
    says_why() { grep -q 'Permission denied (os error 13).*not_allowed.*--allow' <<<"$answer"; }
    answer=$(api PUT /drives/new \
        "{\"drive_id\": \"new\", \"path_on_host\": \"$scratch/other\", \"is_root_device\": false}")
    is "PUT /drives says why: $answer" says_why
    answer=$(api PATCH /drives/d "{\"drive_id\": \"d\", \"path_on_host\": \"$scratch/other\"}")
    is "PATCH /drives says why: $answer" grep -q 'not_allowed.*--allow' <<<"$answer"
    answer=$(api PUT /inox/devices/vsock "{\"vsock\": {\"guest_cid\": 9, \"uds_path\": \"$scratch/left\"}}")
    is "a socket that is left over is not taken for one in use: $answer" grep -q not_allowed <<<"$answer"
    is 'but that one' test -z \
        "$(api PATCH /drives/d "{\"drive_id\": \"d\", \"path_on_host\": \"$scratch/pool/one\"}")"
    is 'and the one that it had' test -z \
        "$(api PATCH /drives/d "{\"drive_id\": \"d\", \"path_on_host\": \"$scratch/disk\"}")"
    leave
fi
finish
