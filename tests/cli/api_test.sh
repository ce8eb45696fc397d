# SPDX-License-Identifier: Apache-2.0
# The control API with curl, against a real guest: configure, start, pause, resume, change, stop.
. "$(dirname "$0")/lib.sh"

command -v curl >/dev/null || { echo 'curl is missing'; exit 77; }
guests=$(dirname "$inox")/tests/kvm/guests
[ -w /dev/kvm ] && [ -e "$guests/echo" ] || { echo 'no /dev/kvm or no guests'; exit 77; }
sock=$scratch/api.sock
answers=$scratch/answers
: >"$answers"

# api METHOD PATH [BODY]: leaves $status and $body, and a line in $answers
api() {
    local type data=()
    [ $# -lt 3 ] || data=(-d "$3")
    body=$(curl -s --max-time 60 --unix-socket "$sock" -X "$1" "${data[@]}" -o - -w '\n%{http_code} %{content_type}' \
        "http://localhost$2")
    read -r status type <<<"${body##*$'\n'}"
    body=${body%$'\n'*}
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$status" "${type:-}" "${body//[$'\n\t']/ }" >>"$answers"
}

# expect STATUS TEXT METHOD PATH [BODY]: TEXT is in the body
expect() {
    local want=$1 text=$2
    shift 2
    api "$@"
    checks=$((checks + 1))
    if [ "$status" != "$want" ] || { [ -n "$text" ] && ! grep -q -F -- "$text" <<<"$body"; }; then
        code=$status out=$body err=$(tail -n 5 "$scratch/log" 2>/dev/null) fail "$* should answer $want with '$text'"
    fi
}

# ends CODE: the VMM ends with it, and its socket is gone
ends() {
    await "$vmm" 'the VMM'
    checks=$((checks + 1))
    [ "$code" = "$1" ] && [ ! -e "$sock" ] || fail "the VMM should end with $1 and remove its socket"
}

start_vmm() {
    "$inox" "$@" >"$scratch/serial" 2>"$scratch/log" <"$scratch/input" &
    vmm=$!
    trap 'kill "$vmm" 2>/dev/null; rm -rf "$scratch"' EXIT
    ! eventually test -S "$sock" || return 0
    code='' out='' err=$(cat "$scratch/log") fail "the socket does not appear"
    finish
}

check() {
    local text=$1
    shift
    checks=$((checks + 1))
    code='' out='' err=$(tail -n 3 "$scratch/log")
    "$@" >/dev/null 2>&1 || fail "$text"
}

has_readers() { curl -s --unix-socket "$sock" http://localhost/inox/status | grep -q "\"event_readers\":$1"; }

# reads_events: leaves what happens in $scratch/events, from now on; $reader is who writes there
reads_events() {
    curl -sN --unix-socket "$sock" http://localhost/inox/events >"$scratch/events" &
    reader=$!
    check 'the reader reads' eventually has_readers 1
}

mkfifo "$scratch/input"
exec 8<>"$scratch/input" # never ends
truncate -s 1M "$scratch/disk" "$scratch/disk2"

# A guest from configuration to its end
start_vmm --api-sock "$sock" --id api-test --enable-pci --level Info --show-level
check 'the socket is for us alone' test "$(stat -c %a "$sock")" = 600
expect 200 '"state":"Not started"' GET /
expect 200 '"vcpu_count":1' GET /machine-config
expect 400 'before starting the microVM' PATCH /vm '{"state": "Paused"}'
expect 204 '' PUT /metrics "{\"metrics_path\": \"$scratch/metrics\"}"
expect 204 '' PUT /machine-config '{"vcpu_count": 2, "mem_size_mib": 64}'
expect 400 'Cannot start microvm without kernel' PUT /actions '{"action_type": "InstanceStart"}'
expect 204 '' PUT /boot-source "{\"kernel_image_path\": \"$scratch/disk\"}"
expect 400 'Start microvm error: Cannot load kernel' PUT /actions '{"action_type": "InstanceStart"}'
expect 200 '"state":"Not started"' GET /
expect 204 '' PUT /boot-source "{\"kernel_image_path\": \"$guests/echo\"}"
expect 204 '' PUT /drives/rootfs \
    "{\"drive_id\": \"rootfs\", \"is_root_device\": true, \"path_on_host\": \"$scratch/disk\"}"
expect 204 '' PUT /balloon '{"amount_mib": 4, "deflate_on_oom": true, "stats_polling_interval_s": 1}'
expect 204 '' PUT /entropy '{}'
expect 204 '' PUT /vsock "{\"guest_cid\": 3, \"uds_path\": \"$scratch/v\"}"
expect 204 '' PUT /mmds '{"latest": {"meta-data": {"id": "i"}}}'
expect 200 '"drive_id":"rootfs"' GET /vm/config
reads_events
eventually grep -q start-failed "$scratch/events"
expect 204 '' PUT /actions '{"action_type": "InstanceStart"}'
expect 400 'after starting the microVM' PUT /actions '{"action_type": "InstanceStart"}'
expect 400 'after starting the microVM' PUT /machine-config '{"vcpu_count": 1, "mem_size_mib": 64}'
expect 200 '"state":"Running"' GET /
echo -n 'abc' >&8
check 'the guest runs' eventually grep -q ABC "$scratch/serial"
expect 204 '' PATCH /vm '{"state": "Paused"}'
expect 204 '' PATCH /vm '{"state": "Paused"}'
expect 200 '"state":"Paused"' GET /
echo -n 'def' >&8
sleep 0.1
check 'a paused guest does nothing' eval "! grep -q DEF $scratch/serial"
expect 204 '' PATCH /vm '{"state": "Resumed"}'
check 'a resumed one goes on' eventually grep -q ABCDEF "$scratch/serial"
expect 204 '' PATCH /drives/rootfs "{\"drive_id\": \"rootfs\", \"path_on_host\": \"$scratch/disk2\"}"
expect 200 'disk2' GET /vm/config
expect 400 'Unable to patch the block device: ' PATCH /drives/rootfs \
    '{"drive_id": "rootfs", "path_on_host": "/nonexistent"}'
expect 400 'Unable to patch the block device: Device not found' PATCH /drives/other '{"drive_id": "other"}'
expect 204 '' PATCH /drives/rootfs '{"drive_id": "rootfs", "rate_limiter": {"ops": {"size": 10, "refill_time": 100}}}'
expect 200 '"ops":{"size":10' GET /vm/config
expect 204 '' PATCH /balloon '{"amount_mib": 8}'
expect 200 '"amount_mib":8' GET /balloon
expect 200 '"target_mib":8' GET /balloon/statistics
expect 204 '' PATCH /balloon/statistics '{"stats_polling_interval_s": 2}'
expect 400 '' PATCH /balloon/statistics '{"stats_polling_interval_s": 0}'
expect 400 '' PATCH /balloon/hinting/start '{}'
expect 200 '"kind":"disk"' GET /inox/devices
expect 200 '"total":4' GET '/inox/devices?limit=1'
expect 200 '"state":"active"' GET /inox/devices/rootfs
data="{\"drive_id\": \"data\", \"is_root_device\": false, \"path_on_host\": \"$scratch/disk\"}"
expect 204 '' PUT /drives/data "$data"
expect 200 '"total":5' GET /inox/devices
expect 400 'Device ID in use' PUT /drives/data "$data"
expect 204 '' DELETE '/inox/devices/data?force=true'
expect 200 '"total":4' GET /inox/devices
expect 404 '' DELETE /inox/devices/data
expect 204 '' PUT /inox/devices/data "{\"disk\": {\"path_on_host\": \"$scratch/disk\"}}"
expect 204 '' DELETE /drives/data
expect 400 'Device not found' DELETE /drives/none
expect 400 'Cannot unplug root device' DELETE /drives/rootfs
expect 400 'save/restore unavailable while running' PUT /snapshot/create '{"snapshot_path": "a", "mem_file_path": "b"}'
expect 400 'removed by force' PUT /inox/snapshot '{"path": "/nonexistent/snap"}'
expect 204 '' PUT /actions '{"action_type": "FlushMetrics"}'
expect 204 '' PUT /actions '{"action_type": "SendCtrlAltDel"}'
tail -n 1 "$scratch/metrics" >"$scratch/metrics.last"
check 'metrics are a JSON object a line' python3 -c 'import json, sys; m = json.load(open(sys.argv[1]))
assert m["vcpu"]["exits"] > 0 and m["block_rootfs"] is not None and m["put_api_requests"]["count"] > 5' \
    "$scratch/metrics.last"
expect 200 'inox_vcpu_exits_total ' GET /inox/metrics
expect 200 'inox_bus_unclaimed_accesses_total ' GET /inox/metrics
expect 200 '"present":false' GET /inox/iommu
expect 200 '"items":' GET /inox/irqs
expect 200 '"pid":'"$vmm" GET /inox/status
expect 200 openapi GET /inox/openapi.json
curl -s --unix-socket "$sock" http://localhost/inox/openapi.json >"$scratch/openapi.json"
body100=$(printf '{"x": "%060000d"}' 0)
check 'a large body waits for 100-continue and is refused by its size' eval \
    "curl -s --max-time 60 -H 'Expect: 100-continue' --unix-socket $sock -X PUT -d '$body100' http://localhost/mmds |
        grep -q 'larger than the limit of 51200'"
for text in 'INFO] The API server received a Put request on "/machine-config" with body "{\"vcpu_count\": 2' \
    'The request was executed successfully. Status code: 204 No Content.' 'Total previous API call duration: ' \
    'Received Error. Status code: 400 Bad Request. Message: ' 'API server started.' '[api-test:api:INFO]'; do
    check "the log has '$text'" grep -q -F -- "$text" "$scratch/log"
done
check 'metadata is not in the log' eval "! grep -q meta-data $scratch/log"
echo -n '.' >&8 # ends it with 7
ends 7
await "$reader" "the reader of events"
for event in started paused resumed device-added device-removed device-ejecting ended; do
    check "there was the event $event" grep -q "\"event\":\"$event\"" "$scratch/events"
done

# Other ends
# Also one that never started, with the reason as the last event
start_vmm --api-sock "$sock"
reads_events
kill -TERM "$vmm"
ends 143
await "$reader" "the reader of events"
check 'the last event is the end' grep -q '"event":"ended","how":"stopped","code":"terminated"' "$scratch/events"

# Readers of events have a limit of their own, and take no place of those who ask
start_vmm --api-sock "$sock" --api-connections 2
mkfifo "$scratch/leave"
python3 - "$sock" >"$scratch/readers" <<'END' &
import socket, sys
readers = []
for _ in range(16):
    readers.append(socket.socket(socket.AF_UNIX))
    readers[-1].connect(sys.argv[1])
    readers[-1].sendall(b"GET /inox/events HTTP/1.1\r\n\r\n")
    print(readers[-1].recv(65536).split(b"\r\n")[0].decode(), flush=True)
open(sys.argv[1].replace("api.sock", "leave")).read()
END
readers=$!
check 'sixteen may read events' eventually eval "[ \"\$(grep -c 200 $scratch/readers)\" = 16 ]"
expect 503 'there are 16 readers of events already' GET /inox/events
expect 200 '"open_connections":1' GET /inox/status
expect 200 '"event_readers":16' GET /inox/status
expect 200 'inox_api_server_refused_streams_total 1' GET /inox/metrics
: >"$scratch/leave"
await "$readers" 'the sixteen readers'
check 'those who leave make room' eventually has_readers 0
kill -TERM "$vmm"
ends 143

start_vmm --api-sock "$sock"
kill -KILL "$vmm"
await "$vmm" "the VMM"
check 'a killed VMM leaves its socket' test -S "$sock"
printf '{"boot-source": {"kernel_image_path": "%s"}}' "$guests/idle" >"$scratch/vm.json"
"$inox" --api-sock "$sock" --config-file "$scratch/vm.json" >"$scratch/serial" 2>"$scratch/log" <&8 &
vmm=$!
check 'the next takes its place and starts from the file' \
    eventually curl -sf --unix-socket "$sock" http://localhost/inox/status
is_running() { curl -sf --unix-socket "$sock" http://localhost/ | grep -q '"state":"Running"'; }
check 'the guest of the file runs soon' eventually is_running
refused 1 in_use 'Check that it is not already used' 'another' "$inox" --api-sock "$sock"
expect 400 'PCI is not enabled' PUT /drives/x \
    "{\"drive_id\": \"x\", \"is_root_device\": false, \"path_on_host\": \"$scratch/disk\"}"
kill -INT "$vmm"
ends 130

# The guest ends as soon as it starts: the answer to InstanceStart comes nevertheless.
for _ in 1 2 3 4 5; do
    start_vmm --api-sock "$sock"
    expect 204 '' PUT /boot-source "{\"kernel_image_path\": \"$guests/power_off\"}"
    expect 204 '' PUT /actions '{"action_type": "InstanceStart"}'
    ends 0
done

# A panic is an event, told once, before the end; the process's status tells too.
start_vmm --api-sock "$sock"
expect 204 '' PUT /boot-source "{\"kernel_image_path\": \"$guests/panic_reset\"}"
reads_events
expect 204 '' PUT /actions '{"action_type": "InstanceStart"}'
ends 135
await "$reader" "the reader of events"
told=$(sed -n 's/.*"event":"\([^"]*\)".*"\(crash_kernel\|code\)":"*\([a-z_]*\).*/\1 \3/p' "$scratch/events" |
    tr '\n' ' ')
check 'a panic is told once for each kind, then the end' test "$told" = \
    'guest-panic true guest-panic false ended guest_panic '

start_vmm --api-sock "$sock"
expect 204 '' PUT /boot-source "{\"kernel_image_path\": \"$guests/triple_fault\"}"
reads_events
expect 204 '' PUT /actions '{"action_type": "InstanceStart"}'
ends 131
await "$reader" "the reader of events"
tail -n 1 "$scratch/events" >"$scratch/events.last"
check 'a triple fault is the last event' \
    grep -q '"event":"ended","how":"failed","code":"guest_triple_fault"' "$scratch/events.last"

# Two starts at once: one succeeds.
start_vmm --api-sock "$sock"
expect 204 '' PUT /boot-source "{\"kernel_image_path\": \"$guests/idle\"}"
for i in 1 2 3 4; do
    curl -s -o /dev/null -w '%{http_code}\n' --unix-socket "$sock" -X PUT -d '{"action_type": "InstanceStart"}' \
        http://localhost/actions >"$scratch/start$i" &
    starts[i]=$!
done
for start in "${starts[@]}"; do await "$start" 'a start'; done
check 'one of four starts succeeds' test "$(cat "$scratch"/start? | grep -c 204)" = 1

# An API beside `inox run`.
kill -TERM "$vmm"
ends 143
start_vmm run --kernel "$guests/idle" --api-sock "$sock"
check 'the guest of inox run runs soon' eventually is_running
kill -TERM "$vmm"
ends 143

# A standard output that nobody reads: the guest waits, or loses, but pause, resume, metrics and the end do not wait.
rm "$scratch/serial"
mkfifo "$scratch/serial"
exec 7<>"$scratch/serial"
some_is_lost() {
    curl -s --unix-socket "$sock" http://localhost/inox/metrics | grep -q 'missed_serial_bytes_total [1-9]'
}
for overflow in wait drop; do
    start_vmm run --kernel "$guests/flood" --memory 16M --api-sock "$sock" --console-overflow "$overflow" --timeout 100s
    eventually is_running
    sleep 0.5
    for _ in 1 2 3; do
        expect 204 '' PATCH /vm '{"state": "Paused"}'
        expect 204 '' PATCH /vm '{"state": "Resumed"}'
    done
    expect 200 '"state":"Running"' GET /
    expect 200 'inox_logger_missed_serial_bytes_total' GET /inox/metrics
    if [ "$overflow" = drop ]; then
        check 'what is lost is counted' eventually some_is_lost # once a slow guest has filled the pipe
    else
        check 'nothing is lost' grep -q 'missed_serial_bytes_total 0' <<<"$body"
    fi
    kill -TERM "$vmm"
    ends 143
done
start_vmm --api-sock "$sock" --metrics-path "$scratch/early_metrics"
check 'the file of --metrics-path is there before the guest' test -e "$scratch/early_metrics"
expect 204 '' PUT /boot-source "{\"kernel_image_path\": \"$guests/flood\"}"
expect 204 '' PUT /actions '{"action_type": "InstanceStart"}'
check 'with the flags of Firecracker it loses' eventually eval \
    "curl -s --unix-socket $sock http://localhost/inox/metrics | grep -q 'missed_serial_bytes_total [1-9]'"
expect 204 '' PUT /actions '{"action_type": "FlushMetrics"}'
check 'and counts it under its name' grep -q '"uart":{"missed_write_count":[1-9]' "$scratch/early_metrics"
kill -TERM "$vmm"
ends 143
exec 7<&-
rm "$scratch/serial"

# In the background of a terminal: the start does not stop the process, and the terminal stays the shell's.
cat >"$scratch/background.py" <<'END'
import json, os, pty, signal, socket, sys, termios, time
inox, path, guest = sys.argv[1:]
told, tell = os.pipe()
shell, terminal = pty.fork()
if shell == 0:
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.execv(inox, [inox, "--api-sock", path])
    os.write(tell, str(job).encode())
    signal.pause()
job = int(os.read(told, 20))

def call(method, target, body):
    for _ in range(500):
        try:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(10)
            client.connect(path)
            break
        except OSError:
            time.sleep(0.01)
    text = json.dumps(body) if body else ""
    client.sendall(f"{method} {target} HTTP/1.1\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    return client.recv(65536).decode()

try:
    assert " 204 " in call("PUT", "/boot-source", {"kernel_image_path": guest})
    assert " 204 " in call("PUT", "/actions", {"action_type": "InstanceStart"})
    time.sleep(0.5)
    assert '"state":"Running"' in call("GET", "/", None)
    assert open(f"/proc/{job}/stat").read().rsplit(") ")[1][0] != "T"
    assert termios.tcgetattr(terminal)[3] & termios.ICANON
finally:
    os.kill(job, signal.SIGKILL)
    os.kill(shell, signal.SIGKILL)
END
run timeout 60 python3 "$scratch/background.py" "$inox" "$sock" "$guests/echo"
checks=$((checks + 1))
[ "$code" = 0 ] || fail 'a start in the background of a terminal works'
rm -f "$sock"

run python3 "$(dirname "$0")/openapi_check.py" "$scratch/openapi.json" "$answers"
checks=$((checks + 1))
[ "$code" = 0 ] || fail 'every answer fits the contract'
finish
