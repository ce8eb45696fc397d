# SPDX-License-Identifier: Apache-2.0
# A start that takes long: signals, the time limit and the API do not wait for it, and it needs no more memory than the
# guest. A start that fails leaves no file. All of it comes before /dev/kvm is missed.
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null && command -v curl >/dev/null || { echo 'python3 or curl is missing'; exit 77; }

# kernel FILE MIB: an ELF kernel in gzip whose second segment has so many MiB
kernel() {
    python3 - "$1" "$2" <<'EOF'
import gzip, struct, sys
size = int(sys.argv[2]) << 20
segments = [(0x100000, 0x1000), (0x200000, size)]
out = struct.pack('<16sHHIQQQIHHHHHH', b'\x7fELF\x02\x01\x01', 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
offset = 0x1000
for address, length in segments:
    out += struct.pack('<IIQQQQQQ', 1, 5, offset, address, address, length, length, 4096)
    offset += length
with gzip.open(sys.argv[1], 'wb', 1) as file:
    file.write(out.ljust(0x1000, b'\0') + bytes(0x1000))
    for _ in range(size >> 20):
        file.write(bytes(1 << 20))
EOF
}
now_ms() { echo $(($(date +%s%N) / 1000000)); }
kernel "$scratch/long" 900

# Looked at before anything is unpacked.
run "$inox" run --kernel "$scratch/long" --memory 512M
checks=$((checks + 1))
[[ $err == *'[kernel_does_not_fit]'* ]] || fail 'a kernel that does not fit should be refused'

# in_a_start SIGNAL WANT TEXT OPTION...: SIGNAL comes half a second after the process
in_a_start() {
    local signal=$1 want=$2 text=$3 sent ended
    shift 3
    "$inox" run --kernel "$scratch/long" --memory 1G "$@" >"$scratch/out" 2>"$scratch/err" </dev/null &
    local vmm=$!
    sleep 0.5
    sent=$(now_ms)
    [ "$signal" = none ] || kill -"$signal" "$vmm"
    await "$vmm" 'the VMM'
    ended=$(now_ms)
    out=$(cat "$scratch/out") err=$(cat "$scratch/err")
    checks=$((checks + 2))
    [ "$code" = "$want" ] && grep -q -F -- "$text" <<<"$err" || fail "$signal in a start should end it with $want"
    took=$((ended - sent))
}

# The whole start, which ends for lack of KVM or with the guest's triple fault, as a measure.
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

# ---- the API meanwhile -----------------------------------------------------------------------------------------------
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
[ "$code" = 143 ] && [ $took -lt $((whole / 3)) ] && [ ! -e "$sock" ] || fail "SIGTERM ended an API's start after $took ms"
wait

# ---- files of a start that fails -------------------------------------------------------------------------------------
kernel "$scratch/short" 1
for option in --console --serial-log --metrics; do
    run timeout 30 "$inox" run --kernel "$scratch/short" --cpus 1 --memory 64M $option "$scratch/left" --disk "$scratch/none"
    checks=$((checks + 1))
    [ "$code" != 0 ] && [ ! -e "$scratch/left" ] || fail "a start that fails leaves the file of $option"
    [ ! -e /dev/kvm ] || continue
    run timeout 30 "$inox" run $option "$scratch/left"
    checks=$((checks + 1))
    [ "$code" = 115 ] && [ ! -e "$scratch/left" ] || fail "a start without KVM leaves the file of $option"
done
finish
