# SPDX-License-Identifier: Apache-2.0
# Dumps of a small guest, on request and at its panic: what is in the file, who may read it, and what becomes of one
# that cannot be written. Readers of kernels are asked in the lab.
. "$(dirname "$0")/lib.sh"

[ -w /dev/kvm ] || { echo 'needs /dev/kvm'; exit 77; }
command -v python3 >/dev/null || { echo 'python3 is missing'; exit 77; }
guests=$(dirname "$inox")/tests/kvm/guests
sock=$scratch/api.sock

# holds_guest CORE GUEST: the core's notes, and the guest's code at its physical address
holds_guest() {
    checks=$((checks + 1))
    python3 - "$1" "$2" <<'END' || fail "$1 should hold the guest"
import struct, sys
core, guest = (open(name, 'rb').read() for name in sys.argv[1:])
def headers(file):
    offset, = struct.unpack_from('<Q', file, 32)
    size, count = struct.unpack_from('<HH', file, 54)
    for i in range(count):
        kind, flags, at, virtual, physical, length = struct.unpack_from('<IIQQQQ', file, offset + i * size)
        yield kind, at, physical, length
assert core[:4] == b'\x7fELF' and struct.unpack_from('<H', core, 16) == (4,), 'no ELF core'
(kind, at, _, length), *loads = headers(core)
names = []
end = at + length
while at < end:
    name, text, number = struct.unpack_from('<III', core, at)
    names.append((core[at + 12:at + 12 + name], text, number))
    at += 12 + (name + 3) // 4 * 4 + (text + 3) // 4 * 4
assert kind == 4 and names == [(b'CORE\0', 336, 1), (b'QEMU\0', 432, 0)], names
seen = 0
for kind, at, physical, length in headers(guest):
    if kind != 1 or not length:
        continue
    for _, place, start, size in loads:
        if start <= physical and physical + length <= start + size:
            same = core[place + physical - start:][:length] == guest[at:at + length]
            seen += same
assert seen, 'the code of the guest is not in the core'
END
}

"$inox" run --kernel "$guests/spin" --memory 16M --timeout 100s --api-sock "$sock" --allow "$scratch" \
    >"$scratch/serial" 2>"$scratch/vmm.err" </dev/null &
vmm=$!
eventually grep -q s "$scratch/serial"
accepted '16' "$inox" ctl -s "$sock" dump "$scratch/core"
holds_guest "$scratch/core" "$guests/spin"
checks=$((checks + 2))
[ "$(stat -c %a "$scratch/core")" = 600 ] || fail 'a dump is for its owner only'
[ "$(stat -c %b "$scratch/core")" -lt 8192 ] || fail 'pages that the guest has not touched should be holes'
# One that exists is not replaced, and one without room does not stay.
refused 99 in_use "a file is at $scratch/core already" 'remove it' "$inox" ctl -s "$sock" dump "$scratch/core"
refused 86 not_allowed '' '--allow' "$inox" ctl -s "$sock" dump ''
refused 86 not_allowed "$HOME/core" '--allow' "$inox" ctl -s "$sock" dump "$HOME/core"
refused 119 output_unwritable 'missing/core' '' "$inox" ctl -s "$sock" dump "$scratch/missing/core"
accepted Running "$inox" ctl -s "$sock" status
# A paused guest stays paused.
accepted '' "$inox" ctl -s "$sock" pause
accepted '' "$inox" ctl -s "$sock" dump "$scratch/core2"
accepted Paused "$inox" ctl -s "$sock" status
kill "$vmm"
await "$vmm" 'the VMM'

# At a panic, also when the guest reboots behind it.
for guest in panic panic_reset panic_text; do
    echo old >"$scratch/panic.core"
    run "$inox" run --kernel "$guests/$guest" --memory 16M --timeout 5s --dump-on-panic "$scratch/panic.core"
    checks=$((checks + 1))
    [ "$code" = 135 ] || fail "$guest should end with 135"
    holds_guest "$scratch/panic.core" "$guests/$guest"
done
refused 119 output_unwritable 'missing/core' '' "$inox" run --dump-on-panic "$scratch/missing/core"

finish
