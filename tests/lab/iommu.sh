#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2317,SC2030,SC2031  # functions that checks call by name; subshells on purpose
# iommu.sh INOX: Debian's 6.12 kernel has every device behind inox's virtio-iommu, with strict DMA: it reads and writes a disk
# through it, gives another disk and an assigned device (QEMU's edu) to drivers in its own user space (vfio-pci), hears of a
# fault that is provoked, and reboots with all of that attached; the next boot has its root file system on a disk behind the
# IOMMU. One start of the lab. An assigned NVMe disk behind it is in vfio.sh.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
. "$here/lib.sh"
bad_address=0xdead000

outside() {
    local inox
    inox=$(readlink -f "$1")
    "$root/tools/dev" kernel 6.12 >/dev/null || skip "Debian's 6.12 kernel cannot be had here"
    "$root/tools/dev" initramfs 6.12 >/dev/null || skip "the initramfs cannot be built here"
    work=$(mktemp -d /tmp/inox-iommu.XXXXXX) || exit
    at_end 'rm -rf "$work"'
    gcc -static -O2 -o "$work/vfio-user" "$root/tools/guest/vfio-user.c" || exit
    head -c 16000000 /dev/urandom >"$work/disk"
    truncate -s 24M "$work/disk"
    seq 4711 99999 | head -c 65536 >"$work/nested"
    truncate -s %512 "$work/vfio-user"
    sha256sum <"$work/disk" | cut -d' ' -f1 >"$work/sum"
    root_disk
    lab_test --nested --smp 1 --memory 2048 --timeout 400 --device edu --out "$work/out" -- bash "$0" --inside "$inox" "$work"
    exit "$status"
}

# A small system: busybox, and what it does as its init
root_disk() {
    local files=$work/files
    mkdir -p "$files"/{bin,dev,etc,proc,sys,sbin}
    cp /bin/busybox "$files/bin/busybox"
    ln -s busybox "$files/bin/sh"
    head -c 8000000 /dev/urandom >"$files/etc/noise"
    sha256sum <"$files/etc/noise" | cut -d' ' -f1 >"$work/noise.sum"
    cat >"$files/sbin/init" <<'END'
#!/bin/sh
/bin/busybox --install -s /bin
exec >/dev/hvc0
echo "root $(awk '$2 == "/" { print $1, $3, substr($4, 1, 2) }' /proc/mounts)"
echo "strict $(cat /sys/block/vda/device/../iommu_group/type)"
echo "noise $(sha256sum </etc/noise | cut -d' ' -f1)"
head -c 4000000 /dev/urandom >/etc/new && sync
sum=$(sha256sum </etc/new)
echo 3 >/proc/sys/vm/drop_caches
for d in /sys/bus/pci/devices/*; do [ "$(cat $d/device)" != 0x11e8 ] || echo "edu yes"; done
[ "$sum" = "$(sha256sum </etc/new)" ] && echo "kept yes"
dmesg | grep -E 'WARNING: CPU|BUG:|Oops|I/O error' | sed 's/^/complaint /'
mount -o remount,ro / && echo "clean yes"
reboot -f
END
    chmod +x "$files/sbin/init"
    truncate -s 40M "$work/root"
    /sbin/mke2fs -q -t ext4 -O ^metadata_csum -d "$files" "$work/root" || exit
}

# What the guest does: said as "KEY VALUE", on a console of its own. The third disk holds the program for the nested driver.
guest_line() {
    cat <<END
echo "strict \$(cat /sys/bus/pci/devices/0000:00:02.0/iommu_group/type)"
for d in /sys/bus/pci/devices/*; do
    case \$d in *:00:00.[01] | *:00:01.0) ;; *) [ ! -e \$d/driver ] || [ -e \$d/iommu_group ] || echo "bare \${d##*/}" ;; esac
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
reboot -f
END
}

inside() {
    inox=$1 work=$2 failed=0
    local edu
    cp --sparse=always "$work/root" /tmp/root
    cp "$work/disk" /tmp/disk
    for edu in /sys/bus/pci/devices/*; do [ "$(<"$edu/device")" != 0x11e8 ] || break; done
    echo vfio-pci >"$edu/driver_override"
    echo "${edu##*/}" >/sys/bus/pci/drivers_probe
    look_on &
    boot "inox.out=hvc0 inox.sh=$(guest_line | base64 -w0)" --disk path=/tmp/disk --disk "path=$work/nested,readonly=on" \
        --disk "path=$work/vfio-user,readonly=on" --entropy --vfio "${edu##*/}" --api-sock /tmp/api
    ok "the guest reboots with its devices attached" [ "$status" = 0 ]
    ok "DMA is translated, each unmap reaches the IOMMU" [ "$(said strict)" = DMA ]
    ok "every device with a driver is behind the IOMMU" [ -z "$(said bare)" ]
    ok "it knows the MSI window" [ "$(said reserved)" = "0x00000000fee00000 0x00000000feefffff msi" ]
    ok "the disk is read right" [ "$(said read)" = "$(<"$work/sum")" ]
    ok "and written" [ "$(said written)" = yes ]
    ok "random numbers come through it" [ "$(said random)" = 64 ]
    ok "a driver in the guest's user space reads a disk, with an interrupt" [ "$(said 'nested read')" = 4711 ]
    ok "a bad address stops that device" [ "$(said 'nested fault')" = "stopped the device" ]
    ok "a driver there uses an assigned device, with DMA and interrupts" [ "$(said 'nested edu')" = "$(printf 'copied\nfault harmless')" ]
    ok "the guest's log has the fault, with its address" grep -qE "^guest log virtio[0-9]+: page fault from EP [0-9]+ at $bad_address \[W\]" /tmp/said
    ok "inox's log has it" grep -qE "endpoint 0000:00:0[0-9]\.0 may not write $bad_address: no mapping" /tmp/err
    ok "the API shows it" grep -qE " $bad_address +w +no mapping" /tmp/sight
    ok "and endpoints with their domain and cache hits" grep -qE "drive0.* attached +[0-9]+ +[1-9][0-9]* " /tmp/sight
    ok "nobody else suffers" same "$(said afterwards)"
    ok "nothing else is in the log" [ -z "$(said complaint)" ]
    ok "and inox finds nothing strange" no_other_warning
    [ $failed = 0 ] || tail -n 25 /tmp/said /tmp/out /tmp/err /tmp/look /tmp/sight

    boot "root=/dev/vda rw" --disk path=/tmp/root --vfio "${edu##*/}"
    about="root on a disk behind the IOMMU"
    ok "the guest reboots" [ "$status" = 0 ]
    ok "it is its root file system" [ "$(said root)" = "/dev/vda ext4 rw" ]
    ok "with strict DMA" [ "$(said strict)" = DMA ]
    ok "it reads it right" [ "$(said noise)" = "$(<"$work/noise.sum")" ]
    ok "and what it writes" [ "$(said kept)" = yes ]
    ok "the device of the guest before is there again" [ "$(said edu)" = yes ]
    ok "nothing is in the log" [ -z "$(said complaint)" ]
    ok "no access was refused" no_fault
    ok "the file system is clean" root_is_clean
    [ $failed = 0 ] || tail -n 25 /tmp/said /tmp/out /tmp/err
    exit $failed
}

# boot WORDS OPTIONS...: one guest from start to end; its status, and /tmp/said, /tmp/out (the kernel's console) and /tmp/err
boot() {
    local words=$1
    shift
    status=0
    rm -f /tmp/console
    "$inox" run --iommu --kernel "$("$root/tools/dev" kernel 6.12)" --initrd "$("$root/tools/dev" initramfs 6.12)" --memory 256M --console /tmp/console "$@" \
        --cmdline "console=ttyS0 quiet panic=-1 iommu.strict=1 $words" --timeout 200s </dev/null >/tmp/out 2>/tmp/err || status=$?
    tr -d '\r' </tmp/console >/tmp/said
}

# Warnings of inox are of the faults that were provoked, and of edu, which has no reset
no_other_warning() { ! grep -E '^inox: (WARN|ERROR)' /tmp/err | grep -v 'IOMMU: endpoint\|broke its ring\|the state that its last user left'; }
no_fault() { ! grep 'no mapping' /tmp/err; }
root_is_clean() { /sbin/e2fsck -fn /tmp/root >/tmp/fsck 2>&1; }

# The tables as the API shows them, once the fault is among them
look_on() {
    for _ in $(seq 400); do
        "$inox" ctl -s /tmp/api iommu >/tmp/look 2>/dev/null
        if grep -q "$bad_address" /tmp/look; then mv /tmp/look /tmp/sight; return; fi
        sleep 0.5
    done
}

same() { [ -n "$1" ] && [ "${1% *}" = "${1#* }" ]; }

case ${1:?which inox} in
    --inside) inside "$2" "$3" ;;
    *) outside "$1" ;;
esac
