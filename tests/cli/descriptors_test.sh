# SPDX-License-Identifier: Apache-2.0
# What a process shares with others: descriptors that come with the start, the modes of what it makes, its socket.
. "$(dirname "$0")/lib.sh"

sock=$scratch/api.sock
vmm=
trap '[ -z "$vmm" ] || kill -KILL "$vmm" 2>/dev/null; rm -rf "$scratch"' EXIT

# serve ARGUMENTS...: an inox that waits for requests, with what the caller's descriptors are
serve() {
    "$inox" --api-sock "$sock" "$@" </dev/null >/dev/null 2>"$scratch/log" &
    vmm=$!
    eventually test -S "$sock" && return
    code='' out='' err=$(cat "$scratch/log") fail 'waited five minutes for the socket'
    finish
}

leave() {
    kill -KILL "$vmm"
    wait "$vmm" 2>/dev/null
    rm -f "$sock"
    vmm=
}

check() {
    local text=$1
    shift
    checks=$((checks + 1))
    code='' out=$(ls -l "/proc/$vmm/fd" 2>/dev/null) err=$(tail -n 3 "$scratch/log")
    "$@" >/dev/null 2>&1 || fail "$text"
}

holds() { ls -l "/proc/$vmm/fd" | grep -q -F -- "$1"; }

# Inherited descriptors
echo x >"$scratch/secret"
echo '{"boot-source": {"kernel_image_path": "/dev/fd/8"}}' >"$scratch/vm.json"
exec 7<"$scratch/secret"
serve
check 'what nobody names is closed' eval "! holds $scratch/secret"
leave
serve --log-path /dev/fd/7
check 'what an option names is kept' holds "$scratch/secret"
leave
serve --keep-fds 7
check '--keep-fds 7 keeps it' holds "$scratch/secret"
leave
exec 30</dev/null
serve --keep-fds 30,7
check '--keep-fds 30,7 keeps it' holds "$scratch/secret"
leave
exec 30<&-
refused 1 config_value '--keep-fds: descriptor 30 is not open' '30<>FILE' "$inox" --api-sock "$sock" --keep-fds 30,7
refused 153 bad_option "'--keep-fds' is not a list of descriptors: '7,x'" '' "$inox" --api-sock "$sock" --keep-fds 7,x
exec 7<&-
exec 8<"$scratch/secret"
run "$inox" run --config "$scratch/vm.json"
checks=$((checks + 1))
grep -q 'kernel_invalid\|kvm_' <<<"$err" || fail 'a descriptor that the configuration file names can be read'
exec 8<&-

# Limits and modes
umask 0
ulimit -Sn 64
serve --log-path "$scratch/made.log" --metrics-path "$scratch/made.metrics"
check 'the limit on descriptors is raised' test "$(awk '/Max open files/ { print $4 == $5 }' "/proc/$vmm/limits")" = 1
check 'the socket is for us alone' test "$(stat -c %a "$sock")" = 600
check 'so is the log' test "$(stat -c %a "$scratch/made.log")" = 600
check 'and the metrics' test "$(stat -c %a "$scratch/made.metrics")" = 600
leave
ulimit -Sn "$(ulimit -Hn)"
umask 0777
serve --api-group "$(id -g)"
check 'and with a group for its members, whatever the umask' test "$(stat -c %a "$sock")" = 660
umask 022

# Limits that are too low
# Whatever call meets it first, with and without KVM: never the host's lack of KVM, never a bug in inox.
for limit in 6 7; do
    refused 118 host_error 'Too many open files' "ulimit -n allows $limit, and this machine needs about 17" \
        bash -c "ulimit -n $limit; exec \"$inox\" run --timeout 100s"
done
if [ -w /dev/kvm ]; then
    for ((limit = 8; limit < 17; limit++)); do
        run bash -c "ulimit -n $limit; exec \"$inox\" run --timeout 100s"
        [ "$code" = 0 ] && break
        checks=$((checks + 1))
        grep -q -F "ulimit -n allows $limit, and this machine needs about 17" <<<"$err" ||
            fail "$limit descriptors: no figures"
    done
    # Too little address space, or data, for a thread: in steps smaller than a stack, so that some of them have room for
    # the guest.
    for limit in 'v 138000' 'd 128000'; do
        said=0
        for ((space = ${limit#* }; space < 300000; space += 1500)); do
            run bash -c "ulimit -s 8192; ulimit -${limit% *} $space; exec \"$inox\" run --timeout 100s"
            [ "$code" = 0 ] && break
            grep -q 'cannot start .* thread' <<<"$err" || continue
            said=1
            checks=$((checks + 1))
            grep -q "ulimit -${limit% *} allows [0-9]* KiB" <<<"$err" ||
                fail "ulimit -${limit% *} $space: the limit is not named"
            grep -q '^Hello' <<<"$out" || continue
            [[ $err == *'inox: the guest failed '*'exit code '* ]] ||
                fail "ulimit -${limit% *} $space: no closing line"
        done
        checks=$((checks + 1))
        [ "$said" = 1 ] || fail "no ulimit -${limit% *} left a machine without a thread"
    done
fi

# A server that does not answer
kill -STOP "$vmm"
refused 124 timed_out 'no answer from' '--timeout' timeout 30 "$inox" ctl -s "$sock" --timeout 300ms status
refused 124 timed_out 'no answer from' '--timeout' timeout 30 "$inox" ctl -s "$sock" --timeout 300ms events
refused 153 bad_option "'soon' is not a time" '500ms' "$inox" ctl -s "$sock" --timeout soon status
kill -CONT "$vmm"
accepted 'Not started' "$inox" ctl -s "$sock" --timeout 30s status

# Clients that keep their connections
if command -v python3 >/dev/null; then
    python3 - "$sock" >"$scratch/crowd" <<'END' &
import socket, sys, time
crowd = []
for _ in range(200):
    crowd.append(socket.socket(socket.AF_UNIX))
    crowd[-1].connect(sys.argv[1])
    crowd[-1].sendall(b"GET / HTTP/1.1\r\n\r\n")
    crowd[-1].recv(65536)
print("here", flush=True)
time.sleep(100)
END
    crowd=$!
    eventually grep -q here "$scratch/crowd" || fail 'waited five minutes for the crowd of clients'
    accepted 'Not started' "$inox" ctl -s "$sock" --timeout 30s status
    kill "$crowd"
    wait "$crowd" 2>/dev/null
fi
leave

# A vsock path needs room for any port
long=$scratch/$(printf '%0100d' 0)
long=${long:0:100}
printf '{"vsock": {"guest_cid": 3, "uds_path": "%s"}}' "$long" >"$scratch/vm.json"
refused 114 config_value 'a vsock path of 100 bytes is 4 too long' 'shorter' "$inox" check "$scratch/vm.json"
refused 114 config_value 'a vsock path of 100 bytes is 4 too long' 'shorter' "$inox" run --config "$scratch/vm.json"
refused 153 bad_option 'a vsock path of 100 bytes is 4 too long' 'shorter' "$inox" run --vsock "cid=3,uds=$long"
finish
