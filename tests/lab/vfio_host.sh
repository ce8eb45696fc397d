#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2317,SC2030,SC2031,SC2086  # functions that checks call by name; subshells on purpose; words without blanks
# vfio_host.sh INOX PROBE: what the host says of devices to assign, the pre-flight of every way that goes wrong, and the
# VFIO layer alone on a real kernel, by both interfaces.
set -uo pipefail
inox=$(readlink -f "$1") probe=$(readlink -f "$2")
root=$(readlink -f "$(dirname "$(readlink -f "$0")")/../..")
. "$root/tests/lab/lib.sh"

if [ -z "${INOX_LAB:-}" ]; then
    work=$(mktemp -d /tmp/inox-vfio-host.XXXXXX)
    at_end 'rm -rf "$work"'
    failed=0
    # run NAME LAB-OPTIONS...: this script again, in a lab with these devices, as `part NAME`
    run() {
        local name=$1 status
        shift
        "$root/tools/lab" --nested --timeout 240 "$@" -- bash "$0" "$inox" "$probe" "$name" 2>"$work/err" </dev/null
        status=$?
        [ $status != 126 ] || { tail -n 1 "$work/err"; exit 77; }
        [ $status = 0 ] || { echo "FAIL part $name: status $status"; tail -n 5 "$work/err"; failed=1; }
    }
    run devices --device nvme --device edu --device bridge --device rp
    run no-iommu --iommu none --device edu
    run unsafe --iommu virtio --device edu
    exit $failed
fi

# ---- in the lab
failed=0
# the address of the Nth device VENDOR:DEVICE
find_device() {
    local device
    for device in /sys/bus/pci/devices/*; do
        [ "$(<"$device/vendor"):$(<"$device/device")" = "0x${1%:*}:0x${1#*:}" ] && basename "$device"
    done | sed -n "${2:-1}p"
}
# what inox check says of configuration $1; sets $status and $said
check() {
    said=$("$inox" check "$1" 2>&1)
    status=$?
}
# refused TEXT CODE WORDS: inox check of a guest with device $device says so
refused() {
    printf '{"vfio": [{"host": "%s"}]}' "$device" >/tmp/vm.json
    check /tmp/vm.json
    if [ $status = "$2" ] && [[ $said == *"$3"* ]]; then echo "PASS $1"; else echo "FAIL $1: $status, $said"; failed=1; fi
}
# look: reads inox host --json anew
look() {
    "$inox" host --json | python3 -c '
import json, sys
for group in json.load(sys.stdin)["iommu"]["groups"]:
    for device in group["devices"]:
        for key, value in device.items():
            print(device["address"], key, value)' >/tmp/host
}
# of ADDRESS KEY: what look saw
of() { sed -n "s/^$1 $2 //p" /tmp/host; }
bind() {
    local commands
    commands=$(of "$1" bind_commands)
    [ -n "$commands" ] || # not in a group yet: some kernels wait for a driver
        commands="echo vfio-pci >/sys/bus/pci/devices/$1/driver_override; echo $1 >/sys/bus/pci/drivers_probe"
    eval "${commands//sudo /}" >/dev/null
    look
}
look

part_devices() {
    device=$(find_device 1b36:0010)
    refused "a device of another driver, by name" 92 "bound to the driver nvme"
    ok "inox host knows its driver" [ "$(of "$device" driver)" = nvme ]
    ok "and that it is not assignable" [ "$(of "$device" assignable)" = False ]
    bind "$device"
    ok "the two commands bind it" [ "$(of "$device" driver)" = vfio-pci ]
    ok "then it is assignable" [ "$(of "$device" assignable)" = True ]
    ok "with FLR" grep -q flr <<<"$(of "$device" reset_methods)"
    ok "with its vectors" [ "$(of "$device" msix_vectors)" = 65 ]
    ok "with 39 bits of DMA" [ "$(of "$device" address_bits)" = 39 ]
    printf '{"vfio": [{"host": "%s"}]}' "$device" >/tmp/vm.json
    check /tmp/vm.json
    ok "inox check finds nothing then" [ "$status" = 0 ]

    # A user without rights: first no file, then no memory to lock.
    local group
    group=$(basename "$(readlink "/sys/bus/pci/devices/$device/iommu_group")")
    as_user() { setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all "$@"; }
    said=$(as_user "$inox" check /tmp/vm.json 2>&1)
    ok "a forbidden group file" grep -q "\[vfio_denied\]" <<<"$said"
    chmod 666 "/dev/vfio/$group"
    said=$(ulimit -l 8192; as_user "$inox" check /tmp/vm.json 2>&1)
    ok "too little memory to lock, with the number" grep -q "needs 131072 KiB of locked memory.*8192 KiB" <<<"$said"

    device=0000:7f:1f.7
    refused "no such device" 121 "there is no PCI device"
    local backend
    for backend in container iommufd; do
        [ $backend = container ] || [ -e /dev/iommu ] || { echo "SKIP iommufd: not in this kernel"; continue; }
        "$probe" "$(find_device 1b36:0010)" $backend >/tmp/probe 2>&1
        ok "NVMe by $backend" grep -q ^PASS /tmp/probe || tail -n 5 /tmp/probe
        for number in 1 2 3; do # on the root bus, behind a bridge, behind a root port
            device=$(find_device 1234:11e8 $number)
            [ -n "$device" ] || continue
            bind "$device"
            [ "$(of "$device" assignable)" = True ] || continue # its group is not viable yet: below
            "$probe" "$device" $backend >/tmp/probe 2>&1
            ok "edu $device by $backend: DMA, interrupts, reset" grep -q ^PASS /tmp/probe || tail -n 5 /tmp/probe
        done
    done

    echo 260 >/proc/sys/vm/nr_hugepages
    device=$(find_device 1234:11e8)
    "$probe" "$device" container 2M >/tmp/probe 2>&1
    ok "huge pages stay huge in the IOMMU" grep -q ^PASS /tmp/probe || tail -n 5 /tmp/probe
    if [ -d /sys/kernel/debug/iommu/intel ]; then
        ok "by its own page tables" grep -q "each of 2 MiB" /tmp/probe
    else
        echo "SKIP the IOMMU's page tables: this kernel does not show them"
    fi
    echo 0 >/proc/sys/vm/nr_hugepages

    # Held by a process, in use; the process killed, free at once.
    for backend in container iommufd; do
        [ $backend = container ] || [ -e /dev/iommu ] || continue
        "$probe" "$device" $backend hold >/tmp/hold 2>&1 &
        local holder=$!
        for _ in $(seq 600); do
            ! grep -q ^holding /tmp/hold && kill -0 $holder 2>/dev/null || break
            sleep 0.1
        done
        "$probe" "$device" $backend >/tmp/probe 2>&1
        ok "a device that another process has, by $backend" grep -q "\[in_use\]" /tmp/probe || tail -n 5 /tmp/probe
        kill -9 $holder
        await_end $holder "the killed probe"
        "$probe" "$device" $backend >/tmp/probe 2>&1
        ok "free as soon as that one was killed" grep -q ^PASS /tmp/probe || tail -n 5 /tmp/probe
    done

    # Two devices behind one bridge: one group.
    local other
    other=$(find_device 8086:100e)
    for number in 1 2 3; do
        device=$(find_device 1234:11e8 $number)
        [ "$(readlink "/sys/bus/pci/devices/$device/iommu_group")" = "$(readlink "/sys/bus/pci/devices/$other/iommu_group")" ] && break
    done
    if [ -e "/sys/bus/pci/devices/$other/driver" ]; then
        refused "a group that the host uses, with the offender's name" 93 "$other of the same group is used by the driver"
    fi
    bind "$other"
    ok "viable once all are bound" [ "$(of "$device" assignable)" = True ]
    "$probe" "$device" container >/tmp/probe 2>&1
    ok "edu in a shared group" grep -q ^PASS /tmp/probe || tail -n 5 /tmp/probe
}

part_no-iommu() {
    device=$(find_device 1234:11e8)
    ok "inox host says there is no IOMMU" grep -q "the kernel shows no IOMMU group" <(NO_COLOR=1 "$inox" host)
    printf '{"vfio": [{"host": "%s"}]}' "$device" >/tmp/vm.json
    check /tmp/vm.json
    ok "no IOMMU is told" grep -q "\[iommu_missing\]" <<<"$said"
}

part_unsafe() {
    device=$(find_device 1234:11e8)
    bind "$device"
    "$probe" "$device" container >/tmp/probe 2>&1
    ok "interrupts that are not isolated, told when the device opens" grep -q "\[iommu_unsafe\]" /tmp/probe
    echo 1 >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
    "$probe" "$device" container >/tmp/probe 2>&1
    ok "allowed by the operator, behind a virtio-iommu" grep -q ^PASS /tmp/probe || tail -n 5 /tmp/probe
}

"part_$3"
exit $failed
