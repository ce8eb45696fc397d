# SPDX-License-Identifier: Apache-2.0
# The examples in configs/, and the commands of the documents that name them, run when they are pasted at the top of the
# repository, once a kernel and an initramfs are where `tools/dev kernel` and `tools/dev initramfs` leave them.
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || { echo 'python3 is missing'; exit 77; }
top=$scratch/top
mkdir -p "$top/build/guest" "$scratch/bin"
cp -r "$source/configs" "$top"
ln -s "$(realpath "$inox")" "$scratch/bin/inox"
PATH=$scratch/bin:$PATH
echo x >"$top/build/guest/initramfs.gz"
# An ELF kernel that writes 7 to the exit port
python3 - "$top/build/guest/vmlinuz" <<'PY'
import struct, sys
head = struct.pack('<16sHHIQQQIHHHHHH', b'\x7fELF\x02\x01\x01', 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
head += struct.pack('<IIQQQQQQ', 1, 5, 0x1000, 0x100000, 0x100000, 4096, 4096, 4096)
open(sys.argv[1], 'wb').write((head.ljust(0x1000, b'\0') + b'\xb0\x07\xe6\xf4').ljust(0x2000, b'\0'))
PY
cd "$top" || exit 1

# What this host may lack, and nothing else, is wrong with an example.
lacking='kvm_missing|kvm_denied|kvm_unusable|not_found|memory_unavailable|vfio_missing|vfio_denied|iommu_missing'
for example in configs/*.json; do
    case $example in */schema.json | */firecracker.json) continue ;; esac # the second is for Firecracker's flags
    run inox check "$example"
    checks=$((checks + 1))
    if grep '^inox: error: ' <<<"$err" | grep -qvE "\[($lacking)\]"; then fail "$example is not good"; fi
done
run inox check --firecracker configs/firecracker.json
checks=$((checks + 1))
if grep '^inox: error: ' <<<"$err" | grep -qvE "\[($lacking)\]"; then fail 'firecracker.json is not good'; fi

commands=$(grep -hE '^ *(inox|build/release/inox) .*configs/' "$source"/README.md "$source"/docs/*.md | sed 's/#.*//')
checks=$((checks + 1))
[ "$(wc -l <<<"$commands")" -ge 2 ] || fail 'the documents should name an example'
while read -r command; do
    run timeout 60 bash -c "${command/#build\/release\/inox/inox}"
    checks=$((checks + 1))
    if grep '^inox: error: ' <<<"$err" | grep -qvE "\[($lacking|expect_not_seen)\]"; then fail "$command"; fi
    # That kernel runs no command, but it gets a verdict
    [[ $command != *' test '* ]] || [[ $err == *'repeat: inox test '* ]] || fail "$command should end with a verdict"
    [[ $command != *' run '* ]] || [ ! -w /dev/kvm ] || [ "$code" = 7 ] || fail "$command should end with the guest's 7"
done <<<"$commands"
if [ -w /dev/kvm ]; then
    accepted 'Hello from inox' inox run --config configs/hello.json
fi
finish
