#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Modules for the devices of this machine, from the initramfs: only those, since loading all takes a guest seconds.
# Sourced by the run scripts; run by busybox's uevent for every device that comes later.

load() { [ $# = 0 ] || modprobe -qa "$@" 2>/dev/null; }

# load_for BUS [VENDOR]: what the devices of this bus ask for
# shellcheck disable=SC2046  # a list of aliases
load_for() { load $(cat "/sys/bus/$1/devices/"*/modalias 2>/dev/null | grep "${2:-}" | sort -u); }

load_for_devices() {
    [ -e "/lib/modules/$(uname -r)" ] || return 0
    grep -q 'virtio_mmio\.device=' /proc/cmdline && load virtio_mmio
    load_for acpi
    load_for platform
    load_for pci v00001AF4      # virtio first, and with it a virtio IOMMU, before the devices behind it
    load_for virtio
    load_for pci
    await_virtio
    load_for virtio
}

# Behind an IOMMU the kernel probes virtio functions a second time, in its own time, once the IOMMU's driver is there.
await_virtio() {
    for _ in $(seq 100); do
        waiting=$(grep -l 'v00001AF4d000010[0-7]' /sys/bus/pci/devices/*/modalias 2>/dev/null |
            while read -r f; do [ -e "${f%modalias}driver" ] || echo "$f"; done)
        [ -n "$waiting" ] || return 0
        sleep 0.05
    done
}

if [ "${ACTION:-}" = add ] && [ -n "${MODALIAS:-}" ]; then load "$MODALIAS"; fi
