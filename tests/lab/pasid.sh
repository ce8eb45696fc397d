#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# pasid.sh INOX: a Linux guest allocates PASIDs, binds page tables that it made in user space, and submits work to the
# virtual accelerator by plain stores: tools/guest/pasid.c, under Debian kernels, with and without a virtio-iommu. And an
# assigned device, whose IOMMU in the lab nests no page tables, works without PASIDs and says why.
set -euo pipefail
inox=$(readlink -f "$1")
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
. "$here/lib.sh"
kernels=(6.1-cloud 6.12)

if [ -z "${INOX_LAB:-}" ]; then
    for kernel in "${kernels[@]}"; do
        "$root/tools/dev" kernel "$kernel" >/dev/null || skip "Debian's $kernel kernel cannot be had here"
    done
    "$root/tools/dev" initramfs >/dev/null || skip "the initramfs cannot be built here"
    work=$(mktemp -d /tmp/inox-pasid.XXXXXX)
    at_end 'rm -rf "$work"'
    gcc -std=gnu2x -O2 -static -s -Wall -Wextra -Werror -o "$work/pasid" "$root/tools/guest/pasid.c"
    gcc -nostdlib -static -no-pie -Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack -o "$work/idle" \
        "$root/tests/kvm/guests/idle.S"
    # A second archive behind the first: the kernel unpacks both
    echo "file /bin/pasid 755 $work/pasid" | python3 "$root/tools/guest/mkcpio.py" "$work/more"
    cat "$("$root/tools/dev" initramfs)" "$work/more" >"$work/initrd"
    lab_test --nested --smp 1 --memory 1536 --timeout 600 --device edu -- "$here/pasid.sh" "$inox" "$work"
    exit "$status"
fi

work=$2 initrd=$2/initrd failed=0
# runs NAME KERNEL OPTIONS...: the program ends with status 0 in this guest
runs() {
    local name=$1 kernel=$2 status=0
    shift 2
    "$inox" run --kernel "$("$root/tools/dev" kernel "$kernel")" --initrd "$initrd" --memory 256M --dsa "$@" \
        --cmdline "console=ttyS0 quiet loglevel=1 panic=-1 inox.sh=$(base64 -w0 <<<'/bin/pasid')" \
        --timeout 200s </dev/null >/tmp/stdout 2>/tmp/stderr || status=$?
    if [ $status = 0 ] && grep -q '^pasid: all is well' <(tr -d '\r' </tmp/stdout); then
        echo "PASS $name"
    else
        echo "FAIL $name: status $status"
        tail -n 15 /tmp/stdout /tmp/stderr
        failed=1
    fi
}
# refuses NAME REASON OPTIONS...: the guest runs with the device, whose lack of PASIDs is told once and shown
refuses() {
    local name=$1 reason=$2 pid said="" shown=""
    shift 2
    "$inox" run --kernel "$work/idle" --memory 32M --api-sock /tmp/api --pasid --vfio "$edu" "$@" </dev/null >/tmp/stdout 2>/tmp/stderr &
    pid=$!
    for _ in $(seq 100); do if grep -q '^i' /tmp/stdout; then break; fi; sleep 0.1; done
    shown=$("$inox" ctl -s /tmp/api pasids) || true
    kill $pid
    await_end $pid "the idle guest" || true
    rm -f /tmp/api
    said=$(grep -c 'no PASIDs for' /tmp/stderr) || true
    if grep -q '^i' /tmp/stdout && [ "$said" = 1 ] && grep -q "no PASIDs for .*$reason.*works without" /tmp/stderr &&
        grep -q "no  *no PASIDs for .*$reason" <<<"$shown"; then
        echo "PASS $name"
    else
        echo "FAIL $name: said $said times"
        tail -n 5 /tmp/stdout /tmp/stderr
        echo "$shown"
        failed=1
    fi
}

for device in /sys/bus/pci/devices/*; do
    [ "$(<"$device/vendor"):$(<"$device/device")" = 0x1234:0x11e8 ] || continue
    edu=$(basename "$device")
    echo vfio-pci >"$device/driver_override"
    echo "$edu" >/sys/bus/pci/drivers_probe
done
bare=$edu edu=$bare,backend=container
refuses "an assigned device by the container has no PASIDs, and inox says why" "container interface"
if [ -e /dev/iommu ]; then
    edu=$bare,backend=iommufd
    refuses "nor by iommufd on an IOMMU that does not nest" "no PASID width"
    refuses "nor behind a virtual IOMMU" "virtual IOMMU" --iommu
fi
for kernel in "${kernels[@]}"; do
    runs "two address spaces on one accelerator, Linux $kernel" "$kernel"
done
runs "the same behind a virtio-iommu, Linux 6.12" 6.12 --iommu
exit $failed
