#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2317,SC2030,SC2031  # functions that checks call by name; subshells on purpose
# iommu.sh INOX: Debian's 6.12 kernel has every device behind inox's virtio-iommu, with strict DMA: it reads and writes a disk
# through it, gives another disk and an assigned device (QEMU's edu) to drivers in its own user space (vfio-pci), and hears of a
# fault that is provoked. One start of the lab. An assigned NVMe disk behind it is in vfio.sh.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
bad_address=0xdead000

skip() {
    echo "SKIP $1"
    exit 77
}

outside() {
    local status=0 inox
    inox=$(readlink -f "$1")
    "$root/tools/dev" kernel 6.12 >/dev/null || skip "Debian's 6.12 kernel cannot be had here"
    "$root/tools/dev" initramfs 6.12 >/dev/null || skip "the initramfs cannot be built here"
    work=$(mktemp -d /tmp/inox-iommu.XXXXXX) || exit
    trap 'rm -rf "$work"' EXIT
    gcc -static -O2 -o "$work/vfio-user" "$root/tools/guest/vfio-user.c" || exit
    head -c 16000000 /dev/urandom >"$work/disk"
    truncate -s 24M "$work/disk"
    seq 4711 99999 | head -c 65536 >"$work/nested"
    truncate -s %512 "$work/vfio-user"
    sha256sum <"$work/disk" | cut -d' ' -f1 >"$work/sum"
    for _ in 1 2 3; do      # two emulated CPUs: now and then one runs code the other has just patched
        status=0
        "$root/tools/lab" --nested --smp 1 --memory 2048 --timeout 300 --device edu --out "$work/out" -- bash "$0" --inside "$inox" "$work" || status=$?
        [ $status = 125 ] || break
        echo "NOTE the lab machine itself died: once more"
    done
    [ $status != 126 ] || skip "the lab machine cannot start here"
    exit $status
}

# What the guest does: said as "KEY VALUE". The third disk holds the program for the nested driver.
guest_line() {
    cat <<END
echo "strict \$(cat /sys/bus/pci/devices/0000:00:02.0/iommu_group/type)"
for d in /sys/bus/pci/devices/*; do
    case \$d in *:00:00.0 | *:00:01.0) ;; *) [ ! -e \$d/driver ] || [ -e \$d/iommu_group ] || echo "bare \${d##*/}" ;; esac
done
echo "reserved \$(cat /sys/bus/pci/devices/0000:00:02.0/iommu_group/reserved_regions)"
echo "read \$(sha256sum </dev/vda | cut -d' ' -f1)"
dd if=/dev/urandom of=/tmp/w bs=1M count=4 2>/dev/null
dd if=/tmp/w of=/dev/vda bs=256k oflag=direct 2>/dev/null && sync
echo 3 >/proc/sys/vm/drop_caches
[ "\$(head -c 4194304 /dev/vda | sha256sum)" = "\$(sha256sum </tmp/w)" ] && echo "written yes"
echo "random \$(head -c 64 /dev/hwrng | wc -c)"
cat /dev/vdc >/tmp/vfio-user && chmod +x /tmp/vfio-user
modprobe -a vfio-pci vfio_iommu_type1
echo 1 >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
device=\$(basename \$(readlink -f /sys/block/vdb/device/..))
echo \$device >/sys/bus/pci/drivers/virtio-pci/unbind
for edu in /sys/bus/pci/devices/*; do [ "\$(cat \$edu/device)" != 0x11e8 ] || break; done
for d in \$device \${edu##*/}; do
    echo vfio-pci >/sys/bus/pci/devices/\$d/driver_override
    echo \$d >/sys/bus/pci/drivers_probe
    /tmp/vfio-user \$d $bad_address
done
sleep 4
dmesg | grep 'fault from EP' | sed 's/^.*virtio_iommu/guest log/'
echo "afterwards \$(sha256sum </tmp/w | cut -c 1-8) \$(head -c 4194304 /dev/vda | sha256sum | cut -c 1-8)"
dmesg | grep -E 'WARNING: CPU|BUG:|Oops|I/O error' | sed 's/^/complaint /'
exit 42
END
}

inside() {
    inox=$1 work=$2 failed=0
    local status=0 edu
    cp "$work/disk" /tmp/disk
    for edu in /sys/bus/pci/devices/*; do [ "$(<"$edu/device")" != 0x11e8 ] || break; done
    echo vfio-pci >"$edu/driver_override"
    echo "${edu##*/}" >/sys/bus/pci/drivers_probe
    look_on &
    "$inox" run --iommu --api-sock /tmp/api --kernel "$("$root/tools/dev" kernel 6.12)" --initrd "$("$root/tools/dev" initramfs 6.12)" --memory 256M \
        --disk path=/tmp/disk --disk "path=$work/nested,readonly=on" --disk "path=$work/vfio-user,readonly=on" --entropy --vfio "${edu##*/}" \
        --cmdline "console=ttyS0 quiet panic=-1 iommu.strict=1 inox.sh=$(guest_line | base64 -w0)" --timeout 200s </dev/null >/tmp/out 2>/tmp/err || status=$?
    tr -d '\r' </tmp/out >/tmp/said
    check "the guest ends by itself" [ $status = 42 ]
    check "DMA is translated, each unmap reaches the IOMMU" [ "$(said strict)" = DMA ]
    check "every device with a driver is behind the IOMMU" [ -z "$(said bare)" ]
    check "it knows the MSI window" [ "$(said reserved)" = "0x00000000fee00000 0x00000000feefffff msi" ]
    check "the disk is read right" [ "$(said read)" = "$(<"$work/sum")" ]
    check "and written" [ "$(said written)" = yes ]
    check "random numbers come through it" [ "$(said random)" = 64 ]
    check "a driver in the guest's user space reads a disk, with an interrupt" [ "$(said 'nested read')" = 4711 ]
    check "a bad address stops that device" [ "$(said 'nested fault')" = "stopped the device" ]
    check "a driver there uses an assigned device, with DMA and interrupts" [ "$(said 'nested edu')" = "$(printf 'copied\nfault harmless')" ]
    check "the guest's log has the fault, with its address" grep -qE "^guest log virtio[0-9]+: page fault from EP [0-9]+ at $bad_address \[W\]" /tmp/said
    check "inox's log has it" grep -qE "endpoint 0000:00:0[0-9]\.0 may not write $bad_address: no mapping" /tmp/err
    check "the API shows it" grep -qE " $bad_address +w +no mapping" /tmp/sight
    check "and endpoints and domains" grep -qE "drive0.* attached " /tmp/sight
    check "nobody else suffers" same "$(said afterwards)"
    check "nothing else is in the log" [ -z "$(said complaint)" ]
    [ $failed = 0 ] || tail -n 25 /tmp/said /tmp/err /tmp/look /tmp/sight
    exit $failed
}

# The tables as the API shows them, once the fault is among them
look_on() {
    for _ in $(seq 400); do
        "$inox" ctl -s /tmp/api iommu >/tmp/look 2>/dev/null
        if grep -q "$bad_address" /tmp/look; then mv /tmp/look /tmp/sight; return; fi
        sleep 0.5
    done
}

said() { sed -n "s/^$1 //p" /tmp/said; }
same() { [ -n "$1" ] && [ "${1% *}" = "${1#* }" ]; }

check() {
    local text=$1
    shift
    if "$@"; then echo "PASS $text"; else echo "FAIL $text"; failed=1; fi
}

case ${1:?which inox} in
    --inside) inside "$2" "$3" ;;
    *) outside "$1" ;;
esac
