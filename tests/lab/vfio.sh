#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2317,SC2030,SC2031,SC2086  # functions that checks call by name; subshells on purpose; words without blanks
# vfio.sh INOX: guests use devices of the lab that are assigned to them: QEMU's edu (a guest of our own, interrupts by pin
# and by MSI, DMA) by both kernel interfaces, alone, behind a bridge and beside another device; an NVMe disk and an e1000e
# network card (Debian's kernels). One start of the lab.
set -uo pipefail
inox=$(readlink -f "$1")
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
. "$here/lib.sh"
transfer=$((100 << 20))

outside() {
    for kernel in 6.1-cloud 6.12; do
        "$root/tools/dev" kernel $kernel >/dev/null || skip "Debian's $kernel kernel cannot be had here"
    done
    "$root/tools/dev" initramfs >/dev/null || skip "the initramfs cannot be built here"
    work=$(mktemp -d /tmp/inox-vfio.XXXXXX) || exit
    at_end 'kill $server 2>/dev/null; rm -rf "$work"'
    for source in tools/guest/edu.c tests/kvm/guests/idle.S; do
        gcc -ffreestanding -fno-pie -mno-red-zone -mgeneral-regs-only -fno-stack-protector -fcf-protection=none -O1 -nostdlib -static -no-pie \
            -Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack -o "$work/$(basename "${source%.*}")" "$root/$source" || exit
    done
    mkdir "$work/files" "$work/web"
    head -c 24000000 /dev/urandom >"$work/files/noise"
    head -c $transfer /dev/urandom >"$work/web/noise"
    truncate -s 64M "$work/nvme"
    /sbin/mke2fs -q -t ext4 -O ^metadata_csum -d "$work/files" "$work/nvme" || exit
    sha256sum <"$work/files/noise" | cut -d' ' -f1 >"$work/noise.sum"
    sha256sum <"$work/web/noise" | cut -d' ' -f1 >"$work/web.sum"
    serve
    lab_test --nested --smp 1 --memory 2048 --timeout 900 --device nvme="$work/nvme" --device e1000e --device edu --device bridge --out "$work/out" \
        -- bash "$0" "$inox" "$work" "$port"
    failed=0
    for guest in 6.1-cloud 6.12 6.12-iommu; do
        ok "what the $guest guest wrote is on the disk" written_by $guest
    done
    ok "its file system is clean" /sbin/e2fsck -fn "$work/nvme" >/dev/null 2>&1
    [ $failed = 0 ] || status=1
    exit "$status"
}

# The guest's 10.0.2.2 is this host's loopback address
serve() {
    python3 -u -m http.server --bind 127.0.0.1 --directory "$work/web" 0 >"$work/port" 2>/dev/null &
    server=$!
    for _ in $(seq 100); do
        port=$(grep -o 'port [0-9]*' "$work/port" | cut -d' ' -f2)
        [ -z "$port" ] || return 0
        sleep 0.1
    done
    skip "no web server starts here"
}

written_by() {
    local said
    said=$(cat "$work/out/written.$1") || return
    /sbin/debugfs -R "dump /from.$1 $work/dump" "$work/nvme" 2>/dev/null
    [ "$said" = "$(sha256sum <"$work/dump" | cut -d' ' -f1)" ]
}

# In the lab

inside() {
    failed=0
    nvme=$(bind 1b36:0010) card=$(bind 8086:10d3) edu=$(bind 1234:11e8)
    backends=container
    [ ! -e /dev/iommu ] || backends="container iommufd"
    bridged=$(bind 1234:11e8 2) && bind 8086:100e >/dev/null
    for backend in $backends; do drive_edu; behind_a_bridge; peer_to_peer; done
    ok "the same device twice is refused by its name" twice
    killed
    use_disk 6.1-cloud 6.1-cloud --vfio "$nvme,backend=container"
    use_disk 6.12 6.12 --vfio "$nvme" --vfio "$card"
    use_disk 6.12 6.12-iommu --iommu --vfio "$nvme"
    ok "6.12-iommu: the disk is behind the virtual IOMMU" [ -n "$(said group)" ]
    exit $failed
}

# bind VENDOR:DEVICE [N]: the Nth to vfio-pci; prints its address
bind() {
    local device left=${2:-1}
    for device in /sys/bus/pci/devices/*; do
        [ "$(<"$device/vendor"):$(<"$device/device")" = "0x${1%:*}:0x${1#*:}" ] && [ $((left -= 1)) = 0 ] || continue
        echo vfio-pci >"$device/driver_override"
        [ ! -e "$device/driver" ] || basename "$device" >"$device/driver/unbind"
        basename "$device" >/sys/bus/pci/drivers_probe
        basename "$device"
        return
    done
}

edu_guest() { "$inox" run --kernel "$work/edu" --memory 32M --timeout 60s --log-level info "$@" </dev/null 2>&1; }

drive_edu() {
    local status
    edu_guest --vfio "$edu,backend=$backend" >/tmp/edu.out
    status=$?
    sed -n "s/^edu: \([A-Z]*\)/\1 edu by $backend:/p" /tmp/edu.out | tr -d '\r'
    ok "edu by $backend: all of it" [ $status = 0 ] || tail -n 5 /tmp/edu.out
    ok "edu by $backend: that interface" grep -q "opened by the $backend interface" /tmp/edu.out
    ok "edu by $backend: no access to its BAR was trapped" grep -q "served 0 accesses" /tmp/edu.out
}

# Without a reset of its own, and a neighbour that nobody else has: the bus is reset
behind_a_bridge() {
    local status
    edu_guest --vfio "$bridged,backend=$backend" >/tmp/edu.out
    status=$?
    ok "edu behind a bridge by $backend: all of it" [ $status = 0 ] || tail -n 5 /tmp/edu.out
    ok "edu behind a bridge by $backend: is reset with its bus" grep -q "was reset with its bus" /tmp/edu.out || tail -n 5 /tmp/edu.out
}

# The disk may reach edu's BAR, where the kernel maps one for the other; edu works in any case
peer_to_peer() {
    local status word="can be reached"
    [ $backend = container ] || word="cannot be reached"
    edu_guest --vfio "$edu,backend=$backend" --vfio "$nvme,backend=$backend" >/tmp/edu.out
    status=$?
    ok "peer to peer by $backend: edu beside the disk" [ $status = 0 ] || tail -n 5 /tmp/edu.out
    ok "peer to peer by $backend: edu's BAR $word by the disk" \
        grep -q "($edu) $word by devices of IOMMU group $(basename "$(readlink "/sys/bus/pci/devices/$nvme/iommu_group")")" /tmp/edu.out ||
        grep reached /tmp/edu.out
}

twice() { [[ $(edu_guest --vfio "$edu" --vfio "$edu,id=other") == *"$edu is assigned twice"* ]]; }

# A process that is killed leaves its device to the next at once
killed() {
    local pid
    "$inox" run --kernel "$work/idle" --memory 32M --vfio "$edu" >/tmp/idle.out 2>&1 </dev/null &
    pid=$!
    for _ in $(seq 100); do if grep -q "^i" /tmp/idle.out; then break; fi; sleep 0.1; done
    edu_guest --vfio "$edu" >/tmp/second
    ok "a device in use is refused" grep -q "\[in_use\]" /tmp/second || tail -n 3 /tmp/second
    kill -9 $pid
    await_end $pid "the killed inox"
    edu_guest --vfio "$edu" >/tmp/edu.out
    ok "a killed inox leaves its device reusable" [ $? = 0 ] || tail -n 5 /tmp/edu.out
}

# What a guest does, as a shell line: said as "KEY VALUE", on a console of its own
guest_line() {
    cat <<END
for i in \$(seq 50); do [ -b /dev/nvme0n1 ] && break; sleep 0.2; done
bar=\$(cut -d' ' -f1 /sys/class/nvme/nvme0/device/resource | head -n 1)
echo "bar \$bar"
echo "group \$(readlink /sys/class/nvme/nvme0/device/iommu_group)"
modprobe ext4
mount -t ext4 /dev/nvme0n1 /mnt && echo "mounted yes"
echo "read \$(sha256sum </mnt/noise | cut -d' ' -f1)"
head -c 8000000 /dev/urandom >/tmp/new
cp /tmp/new /mnt/from.$1 && sync
echo 3 >/proc/sys/vm/drop_caches
echo "kept \$(cmp /tmp/new /mnt/from.$1 && echo yes)"
echo "written \$(sha256sum </tmp/new | cut -d' ' -f1)"
umount /mnt && echo "unmounted yes"
END
    [ -z "$2" ] || cat <<END
ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0
for i in \$(seq 50); do [ "\$(cat /sys/class/net/eth0/carrier)" = 1 ] && break; sleep 0.2; done
ping -q -c 3 -W 5 10.0.2.2 >/dev/null && echo "ping yes"
echo "transfer \$(wget -q -O - http://10.0.2.2:$port/noise | sha256sum | cut -d' ' -f1)"
END
    echo 'dmesg -r | grep -E "^<[0-3]>|WARNING: CPU|BUG:|nvme.*timeout" | sed "s/^/complaint /"'
    echo 'grep -E "nvme0q|eth0" /proc/interrupts | sed "s/^/irq /"'
    echo 'exit 42'
}

# use_disk KERNEL NAME OPTIONS...
use_disk() {
    local kernel=$1 status begin=$SECONDS with_card=
    name=$2
    shift 2
    [[ $* != *$card* ]] || with_card=yes
    watch_exits
    rm -f /tmp/console
    "$inox" run --console /tmp/console --kernel "$("$root/tools/dev" kernel "$kernel")" --initrd "$("$root/tools/dev" initramfs)" --memory 256M --log-level info \
        --cmdline "console=ttyS0 quiet panic=-1 net.ifnames=0 inox.out=hvc0 inox.sh=$(guest_line "$name" "$with_card" | base64 -w0)" \
        --timeout 400s "$@" </dev/null >/tmp/stdout 2>/tmp/stderr
    status=$?
    tr -d '\r' </tmp/console >/tmp/said
    ok "$name: ends as it should, after $((SECONDS - begin)) s" [ $status = 42 ] || tail -n 10 /tmp/said /tmp/stdout /tmp/stderr
    ok "$name: mounts the NVMe disk" [ "$(said mounted)" = yes ] || tail -n 20 /tmp/said
    ok "$name: reads it right" [ "$(said read)" = "$(cat "$work/noise.sum")" ]
    ok "$name: writes, and reads what it wrote" [ "$(said kept)" = yes ]
    ok "$name: unmounts" [ "$(said unmounted)" = yes ]
    ok "$name: no word of complaint" nothing_said complaint
    ok "$name: no access to the mapped BAR left the guest" no_exit
    said written >"$LAB_OUT/written.$name"
    [ -n "$with_card" ] || return 0
    ok "$name: pings through the e1000e at the same time" [ "$(said ping)" = yes ]
    ok "$name: fetches $((transfer >> 20)) MiB through it, right" [ "$(said transfer)" = "$(cat "$work/web.sum")" ]
}

nothing_said() { ! grep "^$1" /tmp/said; }

# KVM's own record of emulated accesses to device memory: the judge of "no exits"
tracing=/sys/kernel/tracing
watch_exits() {
    mountpoint -q $tracing 2>/dev/null || mount -t tracefs none $tracing 2>/dev/null
    [ -e $tracing/events/kvm/kvm_mmio ] || return 0
    echo 'gpa >= 0x4000000000' >$tracing/events/kvm/kvm_mmio/filter
    echo 1 >$tracing/events/kvm/kvm_mmio/enable
    : >$tracing/trace
}

# The disk's BAR is 16 KiB; the pages of the MSI-X table and of the pending bits are its last two
no_exit() {
    local bar seen
    [ -e $tracing/events/kvm/kvm_mmio ] || { echo "NOTE no tracepoints in this kernel"; return 0; }
    bar=$(said bar)
    [ -n "$bar" ] || return
    seen=$(grep -o 'gpa 0x[0-9a-f]*' $tracing/trace | cut -d' ' -f2 | while read -r gpa; do
        if [ $((gpa - bar)) -ge 0 ] && [ $((gpa - bar)) -lt 8192 ]; then echo mapped
        elif [ $((gpa - bar)) -ge 0 ] && [ $((gpa - bar)) -lt 16384 ]; then echo table; fi
    done | sort | uniq -c | tr -s ' \n' ' ')
    echo "NOTE $name: exits for the disk's BAR at $bar:${seen:- none}"
    [[ $seen == *table* && $seen != *mapped* ]]
}

if [ -n "${INOX_LAB:-}" ]; then
    work=$2 port=$3
    inside
else
    outside
fi
