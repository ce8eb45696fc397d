# SPDX-License-Identifier: Apache-2.0
# A start that takes long: signals, the time limit and the API do not wait for it, and it needs no more memory than the
# guest. A start that fails leaves no file. All of it comes before /dev/kvm is missed.
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null && command -v curl >/dev/null || { echo 'python3 or curl is missing'; exit 77; }

# kernel FILE MIB: an ELF kernel in gzip whose second segment has so many MiB, of single Huffman codes, which take long
# to unpack
kernel() {
    python3 - "$1" "$2" <<'EOF'
import random, struct, sys, zlib
count = int(sys.argv[2])
segments = [(0x100000, 0x1000), (0x200000, count << 20)]
head = struct.pack('<16sHHIQQQIHHHHHH', b'\x7fELF\x02\x01\x01', 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
offset = 0x1000
for address, length in segments:
    head += struct.pack('<IIQQQQQQ', 1, 5, offset, address, address, length, length, 4096)
    offset += length
head = head.ljust(0x1000, b'\0') + b'\xb0\x07\xe6\xf4'  # mov $7, %al; out %al, $0xf4
head = head.ljust(0x2000, b'\0')
piece = bytes(random.Random(1).choices(b'\0\1\2\3', k=1 << 20))
packer = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
packed = [packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH) for part in (head, piece)]
crc = zlib.crc32(head)
with open(sys.argv[1], 'wb') as file:
    file.write(b'\x1f\x8b\x08\0\0\0\0\0\0\3' + packed[0])
    for _ in range(count):
        file.write(packed[1])
        crc = zlib.crc32(piece, crc)
    file.write(packer.flush() + struct.pack('<II', crc, (len(head) + len(piece) * count) & 0xffffffff))
EOF
}
now_ms() { echo $(($(date +%s%N) / 1000000)); }
kernel "$scratch/long" 700

# Looked at before anything is unpacked.
run "$inox" run --kernel "$scratch/long" --memory 512M
checks=$((checks + 1))
[[ $err == *'[kernel_does_not_fit]'* ]] || fail 'a kernel that does not fit should be refused'

# takes_signals PID: whether SIGTERM waits for it, or it is gone. The shell that is about to become inox blocks it, too.
takes_signals() {
    local blocked
    blocked=$(sed -n 's/^SigBlk:\t//p' "/proc/$1/status" 2>/dev/null)
    [ -z "$blocked" ] || { [ $((0x$blocked >> 14 & 1)) = 1 ] && [ "/proc/$1/exe" -ef "$inox" ]; }
}

# in_a_start SIGNAL WANT TEXT OPTION...: SIGNAL comes after a quarter of the time that a whole start takes
in_a_start() {
    local signal=$1 want=$2 text=$3 sent ended
    shift 3
    "$inox" run --kernel "$scratch/long" --memory 1G "$@" >"$scratch/out" 2>"$scratch/err" </dev/null &
    local vmm=$!
    # Before it has taken SIGTERM over, a signal ends it like any program
    eventually takes_signals "$vmm"
    sleep "$((whole / 4000)).$(printf %03d $((whole / 4 % 1000)))"
    sent=$(now_ms)
    [ "$signal" = none ] || kill -"$signal" "$vmm"
    await "$vmm" 'the VMM'
    ended=$(now_ms)
    out=$(cat "$scratch/out") err=$(cat "$scratch/err")
    checks=$((checks + 2))
    [ "$code" = "$want" ] && grep -q -F -- "$text" <<<"$err" || fail "$signal in a start should end it with $want"
    ends_with_its_line "$want"
    took=$((ended - sent))
}

# ends_with_its_line EXIT: the last line says how long it took, and no hint speaks of devices that nobody waited for
ends_with_its_line() {
    local line="^inox: the guest was stopped .* after [0-9]+\.[0-9]{3} s; exit code $1\$"
    checks=$((checks + 1))
    tail -n 1 <<<"$err" | grep -q -E "$line" && [[ $err != *'devices did not stop'* ]] ||
        fail "a start that was ended should say so in its last line"
}

# The whole start, which ends for lack of KVM or with the guest's code 7, as a measure.
begun=$(now_ms)
run timeout 100 "$inox" run --kernel "$scratch/long" --memory 1G --timeout 90s
whole=$(($(now_ms) - begun))
for signal in TERM INT; do
    in_a_start $signal $([ $signal = TERM ] && echo 143 || echo 130) "SIG$signal"
    checks=$((checks + 1))
    [ $took -lt $((whole / 3)) ] || fail "SIG$signal ended a start of $whole ms only after $took ms"
done
in_a_start none 124 'did not end within 300 ms' --timeout 300ms
checks=$((checks + 1))
[ $took -lt $((whole / 3)) ] || fail "--timeout ended a start of $whole ms only after $took ms"

# Early and late: before the watchdog's thread, and while it stops a start.
for milliseconds in 000 005 010 020 030 040 060; do
    "$inox" run --kernel "$scratch/long" --memory 1G >"$scratch/out" 2>"$scratch/err" </dev/null &
    vmm=$!
    eventually grep -q 'SigBlk:.*[1-9a-f]' /proc/$vmm/status # it takes signals itself
    sleep 0.$milliseconds
    kill -TERM "$vmm"
    await "$vmm" 'the VMM'
    out=$(cat "$scratch/out") err=$(cat "$scratch/err")
    checks=$((checks + 1))
    [ "$code" = 143 ] || fail "SIGTERM after $milliseconds ms should end a start with 143"
    ends_with_its_line 143
done

# KVM makes tables for all of a guest's memory, which takes seconds for 4 TiB.
if [ -w /dev/kvm ] && [ "$(ulimit -v)" = unlimited ]; then
    begun=$(now_ms)
    run timeout 100 "$inox" run --memory 4194304M --expect Hello
    whole_kvm=$(($(now_ms) - begun))
    if [ "$code" = 0 ] && [ $whole_kvm -gt 1000 ]; then
        begun=$(now_ms)
        run timeout 100 "$inox" run --memory 4194304M --timeout 30ms
        took=$(($(now_ms) - begun))
        checks=$((checks + 1))
        [ "$code" = 124 ] && [ $took -lt $((whole_kvm / 2)) ] ||
            fail "--timeout 30ms ended a start of $whole_kvm ms with 4 TiB of memory after $took ms"
        ends_with_its_line 124
    fi
fi

# SIGTSTP stops the process as it does any other; a SIGCONT that comes soon after it, or before the loop has heard of
# it, is not lost. In a process group of its own with a parent, as a shell's job: others do not stop.
run timeout 300 python3 - "$inox" "$scratch/stopped" <<'EOF'
import os, signal, subprocess, sys, time
def aside(): # on one CPU, so that its threads wait for each other
    os.setpgid(0, 0)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
vmm = subprocess.Popen([sys.argv[1], '--api-sock', sys.argv[2]], stdin=subprocess.DEVNULL, preexec_fn=aside)
busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass'], preexec_fn=aside) for _ in range(2)]
def state():
    with open(f'/proc/{vmm.pid}/stat', encoding='ascii') as stat:
        return stat.read().rpartition(')')[2].split()[0]
def until(what, good):
    limit = time.monotonic() + 60
    while not good():
        if time.monotonic() > limit:
            for one in [vmm, *busy]:
                one.kill()
            sys.exit(f'waited 60 s for {what}')
        time.sleep(0.002)
until('the socket', lambda: os.path.exists(sys.argv[2]))
lost = 0
for turn in range(150):
    vmm.send_signal(signal.SIGTSTP)
    time.sleep(turn % 15 * 0.0005)
    vmm.send_signal(signal.SIGCONT)
    time.sleep(0.04)
    lost += state() == 'T'
for one in busy:
    one.kill()
time.sleep(0.5)
lost += state() == 'T'
vmm.send_signal(signal.SIGCONT)
vmm.send_signal(signal.SIGTSTP)
until('a stop', lambda: state() == 'T')
vmm.send_signal(signal.SIGCONT)
until('its end', lambda: state() != 'T')
vmm.terminate()
vmm.wait(60)
sys.exit(f'{lost} times a SIGCONT was lost' if lost else 0)
EOF
checks=$((checks + 1))
[ "$code" = 0 ] || fail 'stops and continues'

# The API meanwhile
sock=$scratch/sock
"$inox" --api-sock "$sock" >/dev/null 2>"$scratch/log" </dev/null &
vmm=$!
trap 'kill "$vmm" 2>/dev/null; rm -rf "$scratch"' EXIT
eventually test -S "$sock" || fail 'the socket does not appear'
ask() { curl -s --max-time 60 --unix-socket "$sock" "$@"; }
ask -X PUT -d "{\"kernel_image_path\": \"$scratch/long\"}" http://localhost/boot-source
ask -X PUT -d '{"vcpu_count": 1, "mem_size_mib": 1024}' http://localhost/machine-config
ask -X PUT -d '{"action_type": "InstanceStart"}' http://localhost/actions >"$scratch/started" &
starter=$!
sleep 0.2
ask -X PUT -d '{"vcpu_count": 2, "mem_size_mib": 1024}' http://localhost/machine-config >"$scratch/changed" &
changer=$!
longest=0 asked=0
while kill -0 $starter 2>/dev/null && [ $asked -lt 20 ]; do
    begun=$(now_ms)
    body=$(ask http://localhost/)
    took=$(($(now_ms) - begun))
    [ $took -le $longest ] || longest=$took
    kill -0 $starter 2>/dev/null || break
    checks=$((checks + 1)) asked=$((asked + 1))
    [[ $body == *'"state":"Not started"'* ]] || fail "GET / in a start answers: $body"
done
code='' out='' err=$(tail -n 5 "$scratch/log")
checks=$((checks + 3))
[ $asked -gt 3 ] || fail "the API answered $asked times while a start took $whole ms"
[ $longest -lt $((whole / 3)) ] || fail "the API's answer took $longest ms, the start $whole ms"
kill -0 $changer 2>/dev/null || fail 'a change does not wait for the start under way'
kill -TERM $vmm
begun=$(now_ms)
await $vmm 'the VMM'
took=$(($(now_ms) - begun))
checks=$((checks + 1))
[ "$code" = 143 ] && [ $took -lt $((whole / 3)) ] && [ ! -e "$sock" ] ||
    fail "SIGTERM ended an API's start after $took ms"
wait

# Files of a start that fails
kernel "$scratch/short" 1
for option in --console --serial-log --metrics; do
    run timeout 30 "$inox" run --kernel "$scratch/short" --cpus 1 --memory 64M $option "$scratch/left" \
        --disk "$scratch/none"
    checks=$((checks + 1))
    [ "$code" != 0 ] && [ ! -e "$scratch/left" ] || fail "a start that fails leaves the file of $option"
    [ ! -e /dev/kvm ] || continue
    run timeout 30 "$inox" run $option "$scratch/left"
    checks=$((checks + 1))
    [ "$code" = 115 ] && [ ! -e "$scratch/left" ] || fail "a start without KVM leaves the file of $option"
done
finish
