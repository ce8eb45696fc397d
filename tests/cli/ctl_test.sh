# SPDX-License-Identifier: Apache-2.0
# inox ctl against a running guest: tables, JSON, refusals.
. "$(dirname "$0")/lib.sh"

refused 153 bad_option 'the command is missing' 'status' "$inox" ctl
refused 153 bad_option "unknown command 'statsu'" "did you mean 'status'?" "$inox" ctl -s x statsu
refused 153 bad_option 'the socket is missing' '-s' "$inox" ctl status
refused 153 bad_option 'remove takes ID' '--help' "$inox" ctl -s x remove
refused 153 bad_option "unknown option '--frob'" '--help' "$inox" ctl --frob
refused 153 bad_option 'the value of -s is missing' '--help' "$inox" ctl status -s
refused 121 not_found "cannot reach '$scratch/none'" 'api-sock' "$inox" ctl -s "$scratch/none" status
accepted 'add-disk ID PATH [KEY=VALUE...]' "$inox" ctl --help
accepted '--json: a list of name, labels, type, value' "$inox" ctl --help
refused 153 bad_option "'iommufd' is not KEY=VALUE" 'backend=iommufd' "$inox" ctl -s x add-vfio nic 01:00.0 iommufd
refused 153 bad_option "'G T' is not a method" 'GET' "$inox" ctl -s x request 'G T' /

guests=$(dirname "$inox")/tests/kvm/guests
[ -w /dev/kvm ] && [ -e "$guests/echo" ] ||
    { echo 'not checked: a running guest, for lack of /dev/kvm or the guest'; finish; }
sock=$scratch/sock
truncate -s 1M "$scratch/disk" "$scratch/disk2"
mkfifo "$scratch/input"
exec 8<>"$scratch/input" # never ends
"$inox" run --kernel "$guests/echo" --api-sock "$sock" --disk "path=$scratch/disk,id=first" --balloon size=2 \
    --allow "$scratch/disk2" --allow /nonexistent --timeout 900s >/dev/null 2>"$scratch/log" <"$scratch/input" &
vmm=$!
trap 'kill "$vmm" 2>/dev/null; rm -rf "$scratch"' EXIT
ctl() { "$inox" ctl -s "$sock" "$@"; }
# status_shows TEXT: the VMM answers, and so
status_shows() { ctl --json status 2>/dev/null | grep -q -- "$1"; }
eventually status_shows Running || fail 'the guest does not run'

accepted 'state                 Running' ctl status
accepted '"state": "Running"' ctl --json status
accepted 'kernel_image_path' ctl config
accepted 'vcpu_count         1' ctl machine
accepted "first  no    no        Writeback  -       $scratch/disk" ctl drives
accepted 'none' ctl nets
accepted 'amount_mib                2' ctl balloon
accepted '' ctl balloon 3
accepted 'amount_mib                3' ctl balloon
refused 120 wrong_state 'Balloon config error: ' '' ctl balloon-statistics
accepted 'first     disk     0000:00:' ctl devices
accepted '' ctl add-disk second "$scratch/disk2"
accepted 'second    disk' ctl devices
refused 97 disk_missing '/nonexistent' 'path' ctl add-disk third /nonexistent
refused 86 not_allowed "$scratch/other" '--allow' ctl add-disk third "$scratch/other"
accepted '' ctl remove second --force
refused 121 not_found '' '' ctl remove second --kind disk
# A temporary one only reads its image, which need not be writable
chmod 444 "$scratch/disk2"
accepted '' ctl add-disk thrown "$scratch/disk2" temporary=true
accepted '"temporary": true' ctl --json config
accepted '' ctl add-disk shared "$scratch/disk2" temporary=true
accepted '' ctl remove shared --force
accepted '' ctl remove thrown --force
chmod 644 "$scratch/disk2"
accepted 'none' ctl irqs
accepted 'no IOMMU' ctl iommu
accepted 'no PASIDs' ctl pasids
accepted 'inox_vcpu_exits_total' ctl metrics
accepted '# TYPE inox_block_read_bytes_total counter' ctl metrics
accepted '"name": "inox_vcpu_exits_total"' ctl --json metrics
# json EXPRESSION COMMAND...: it prints JSON, of which Python's EXPRESSION over j is true
json() {
    local expression=$1
    shift
    run "$@"
    checks=$((checks + 1))
    python3 -c "import json, sys; j = json.load(sys.stdin); sys.exit(0 if $expression else 1)" <<<"$out" ||
        fail "$* should print JSON with $expression"
}
json 'any(s == {"name": "inox_block_read_bytes_total", "labels": {"id": "first"}, "type": "counter", "value": 0}
    for s in j)' ctl --json metrics
json 'all(isinstance(s["value"], int) and s["type"] in ("counter", "gauge") for s in j)' ctl metrics --json
json 'j["open_connections"] == 1 and j["event_readers"] == 0' ctl --json status
accepted '"openapi":"3.1.0"' ctl openapi
accepted '"app_name":"Firecracker"' ctl request GET /
refused 153 bad_option 'Invalid request method and/or path: GET nothing.' 'openapi' ctl request GET /nothing
refused 153 bad_option 'Invalid HTTP Method: FOO.' '' ctl request FOO /
refused 153 bad_option 'Invalid request' '' ctl request GET "/$(printf '%01100d' 0)"
for command in 'add-vfio ID 0000:01:00.0' 'add-disk ID x' 'add-net ID x' 'remove ID'; do
    words=($command)
    words[1]='bad id!'
    refused 153 bad_option 'API Resource IDs can only contain alphanumeric characters and underscores.' "'-' may be" \
        ctl "${words[@]}"
    words[1]=''
    refused 153 bad_option 'The ID cannot be empty.' '' ctl "${words[@]}"
done
refused 121 not_found '' '' ctl remove no-such-device
refused 153 bad_option "'disc' is not a kind of device" 'disk, net' ctl remove first --kind disc
refused 153 bad_option "'a&b=c' is not a kind of device" 'disk, net' ctl remove first --kind 'a&b=c'
refused 153 bad_option "force is 'maybe', neither true nor false" 'force=true' \
    ctl request DELETE '/inox/devices/first?force=maybe'
refused 153 bad_option "since is 'soon', which is not a number" '' ctl events soon
refused 153 bad_option "domain is 'x y', which is not a number" '' ctl iommu 'x y'
refused 114 config_value "2 kinds of device where it takes one: 'disk', 'net'" '' \
    ctl request PUT /inox/devices/x '{"disk": {}, "net": {}}'
refused 112 config_unknown_key 'unknown field `bakend`' '' ctl add-vfio nic 0000:ff:1f.7 bakend=iommufd
refused 114 config_value 'unknown variant `fast`, expected one of `auto`' '' ctl add-vfio nic 0000:ff:1f.7 backend=fast
refused 111 config_type 'string "perhaps", expected a boolean' '' ctl add-vfio nic 0000:ff:1f.7 rom=perhaps
refused 121 not_found 'there is no PCI device 0000:ff:1f.7' '' ctl add-vfio nic 0000:ff:1f.7 backend=container \
    rom=false relocate_msix=auto vf_token=00112233-4455-6677-8899-aabbccddeeff
accepted '' ctl add-disk second "$scratch/disk2" is_read_only=true cache_type=Writeback \
    'rate_limiter={"ops": {"size": 100, "refill_time": 1000}}'
accepted 'second  no    yes' ctl drives
accepted '' ctl remove second --force
ctl events >"$scratch/events" &
reader=$!
# Half closed, and HTTP/1.0: lines without chunks, until the end
python3 - "$sock" >"$scratch/old" <<'END' &
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"GET /inox/events HTTP/1.0\r\n\r\n")
s.shutdown(socket.SHUT_WR)
while piece := s.recv(65536):
    sys.stdout.buffer.write(piece)
END
old=$!
eventually status_shows '"event_readers": 2' || fail 'there should be two readers of events'
accepted '' ctl pause
accepted 'Paused' ctl status
accepted '' ctl resume
accepted '' ctl stop
kill "$vmm"
await "$vmm" 'the VMM'
await "$old" 'the old reader of events'
await "$reader" 'the reader of events'
checks=$((checks + 5))
[ "$code" = 0 ] || fail 'the events end with the VMM, and that is no error'
grep -q '  paused$' "$scratch/events" || fail 'events are lines'
tail -n 1 "$scratch/events" | grep -q '  ended  how=stopped  code=terminated  what=terminated (SIGTERM)$' ||
    fail 'the last event tells of SIGTERM'
tail -n 1 "$scratch/old" | grep -q '"event":"ended","how":"stopped"' || fail 'a half-closed reader sees the end too'
! grep -q chunked "$scratch/old" || fail 'HTTP/1.0 has no chunks'

# Other ends: the stream's last line tells each. ends HOW OPTIONS...: runs until $act ends it
ends() {
    local how=$1
    shift
    rm -f "$sock" "$scratch/events" # the last guest's events tell nothing of this one's start
    "$inox" run --api-sock "$sock" "$@" >"$scratch/out" 2>"$scratch/log" <"$scratch/input" &
    vmm=$!
    eventually status_shows state || fail 'the VMM does not answer'
    ctl --json events >"$scratch/events" &
    reader=$!
    eventually grep -q started "$scratch/events" || fail 'there is no event of the start'
    eval "$act"
    await "$vmm" 'the VMM'
    await "$reader" 'the reader of events'
    checks=$((checks + 1))
    out=$(tail -n 1 "$scratch/events") code=$?
    [[ $out == *'"event":"ended",'"$how" ]] || fail "the last event should be ended with $how"
}
echo_ends() { ends "$1" --kernel "$guests/echo" "${@:2}"; }
act='kill -INT "$vmm"' echo_ends '"how":"stopped","code":"interrupted","what":"interrupted (SIGINT)"}'
act='kill -HUP "$vmm"' echo_ends '"how":"stopped","code":"terminated","what":"terminated (SIGHUP)"}'
act='kill -QUIT "$vmm"' echo_ends '"how":"stopped","code":"terminated","what":"terminated (SIGQUIT)"}'
act=: echo_ends '"how":"stopped","code":"timed_out","what":"the guest did not end within 2000 ms"}' --timeout 2s
act='printf ab >&8' echo_ends '"how":"stopped","what":"the console showed what --expect asks for"}' \
    --expect AB --timeout 60s
act='printf . >&8' echo_ends '"how":"exited","exit_code":7}'
finish
