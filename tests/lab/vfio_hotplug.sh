#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2317  # functions that checks call by name
# An assigned NVMe disk comes and goes in a running Debian guest: ten times by the control API, by both kernel interfaces in
# turn, by force in the middle of the guest's I/O, and because the host wants it back. The guest reads it right each time,
# and nothing of it stays with inox or the kernel. One start of the lab.
#   vfio_hotplug.sh INOX
# INOX_HOTPLUG_TURNS: how often (default 10).
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
. "$here/lib.sh"
. "$here/expect.sh"
. "$here/control.sh"

turns=${INOX_HOTPLUG_TURNS:-10}
socket=/tmp/hotplug.api
name=6.12

outside() {
    local inox status=0
    inox=$(readlink -f "$1")
    command -v curl >/dev/null || skip "curl is missing"
    "$root/tools/dev" kernel $name >/dev/null || skip "Debian's $name kernel cannot be had here"
    "$root/tools/dev" initramfs >/dev/null || skip "the initramfs cannot be built here"
    "$root/tools/lab" --nested --smp 1 --memory 1536 --timeout 600 --device nvme -- "$here/vfio_hotplug.sh" --inside "$inox" || status=$?
    [ $status != 126 ] || skip "the lab machine cannot start here"
    exit $status
}

inside() {
    local turn before after begin
    inox=$1 failed=0 backends=(container)
    [ ! -e /dev/iommu ] || backends=(container iommufd)
    at_end 'stop_all; rm -rf "$expect_dir"'
    disk=$(find_disk)
    driver=/sys/bus/pci/drivers/vfio-pci
    echo vfio-pci >"/sys/bus/pci/devices/$disk/driver_override"
    sum=$(sha256sum <"/dev/$(basename "/sys/bus/pci/devices/$disk/nvme/"*/nvme*n1)" | cut -d' ' -f1)
    echo "$disk" >"/sys/bus/pci/devices/$disk/driver/unbind"
    give_back
    boot || exit 1
    begin=$SECONDS
    for turn in $(seq "$turns"); do
        once "$turn" || exit 1
        [ "$turn" != 2 ] || before=$(holdings)
    done
    after=$(holdings)
    echo "NOTE $turns turns took $((SECONDS - begin)) s; descriptors, mappings, KiB of inox's own, pages pinned, DMA translations"
    echo "NOTE after the second: $before; at the end: $after"
    check "nothing of it is left" leaks_nothing "$before" "$after"
    while_busy asked ""
    while_busy forced "?force=true"
    asked_back
    check "and no more than before is held in the end" leaks_nothing "$before" "$(holdings)"
    check "the guest has no complaint but of its lost disk" complaints_of_the_disk_only
    type_line it "exit 5"
    check "ends" finish it 60
    check "with the shell's status" [ "$ended" = 5 ]
    exit "$failed"
}

find_disk() {
    local device
    for device in /sys/bus/pci/devices/*; do
        [ "$(<"$device/vendor"):$(<"$device/device")" != 0x1b36:0x0010 ] || basename "$device"
    done
}

# To vfio-pci
give_back() { echo "$disk" >/sys/bus/pci/drivers_probe && [ -e "$driver/$disk" ]; }

boot() {
    rm -f $socket
    start it "$inox" run --kernel "$("$root/tools/dev" kernel $name)" --initrd "$("$root/tools/dev" initramfs)" --memory 256M \
        --cmdline "console=ttyS0 quiet loglevel=1 panic=-1" --api-sock $socket --timeout 500s
    await it "a shell in the guest" 120 || { fail "does not boot"; return 1; }
    await it "# " 60 || { fail "has no shell"; return 1; }
    type_line it "stty -echo; dmesg -n 1; exec env PS1= PS2= sh"
    [[ $(guest it "echo a quiet shell" 60) == *"a quiet shell"* ]]
    check "boots to a shell" says "quiet" "echo quiet"
    check "has the disk's driver" guest it "modprobe nvme"
}

# once TURN
once() {
    local backend=${backends[$(($1 % ${#backends[@]}))]}
    check "turn $1: the disk is added by $backend" add "$backend" &&
        check "turn $1: the guest reads it right" reads_right &&
        check "turn $1: it is asked back" api DELETE /inox/devices/disk "" 204 &&
        check "turn $1: the guest gives it back" gone disk &&
        check "turn $1: and has it no more" guest it "[ ! -e /dev/nvme0n1 ]"
}

add() { api PUT /inox/devices/disk "{\"vfio\": {\"host\": \"$disk\", \"backend\": \"$1\"}}" 204; }
reads_right() {
    guest it "until [ -b /dev/nvme0n1 ]; do usleep 20000; done" 30 && says "$sum" "sha256sum </dev/nvme0n1 | cut -d' ' -f1"
}

# while_busy WORD QUERY: it goes while the guest reads without end
while_busy() {
    check "$1 while busy: the disk is added" add "${backends[0]}"
    check "$1 while busy: the guest reads it right" reads_right
    check "$1 while busy: the guest goes on reading" guest it \
        '( { while dd if=/dev/nvme0n1 of=/dev/null bs=64k iflag=direct 2>/dev/null; do :; done; echo over >/tmp/over; } & ); sleep 1; [ ! -e /tmp/over ]'
    check "$1 while busy: what is held of it is seen" shows_up "$before" "$(holdings)"
    check "$1 while busy: the disk is taken" api DELETE "/inox/devices/disk$2" "" 204
    check "$1 while busy: it is gone" gone disk
    check "$1 while busy: the reader ends" guest it 'until [ -e /tmp/over ]; do usleep 100000; done; rm /tmp/over' 90
    check "$1 while busy: the guest has it no more" guest it "while [ -e /dev/nvme0n1 ]; do usleep 100000; done" 90
    check "$1 while busy: the same disk is added again" add "${backends[-1]}"
    check "$1 while busy: the guest reads it right again" reads_right
    check "$1 while busy: it is asked back" api DELETE /inox/devices/disk "" 204
    check "$1 while busy: and gone" gone disk
}

# Unbinding waits until inox has let go of the device
asked_back() {
    local unbinding
    check "asked back: the disk is added" add "${backends[0]}"
    check "asked back: the guest reads it right" reads_right
    echo "$disk" >"$driver/unbind" &
    unbinding=$!
    check "asked back: the guest gives it back" gone disk
    check "asked back: and has it no more" guest it "[ ! -e /dev/nvme0n1 ]"
    check "asked back: the host has its device" ends_soon $unbinding
    check "asked back: inox says who asked" grep -q "the host asks for .* back" "$expect_dir/it.err"
    check "asked back: it can be given once more" give_back
    check "asked back: it is added once more, by inox ctl" "$inox" ctl -s $socket add-vfio disk "$disk"
    check "asked back: the guest reads it right once more" reads_right
    check "asked back: it goes" api DELETE /inox/devices/disk "" 204
    check "asked back: and is gone" gone disk
}

ends_soon() {
    for _ in $(seq 300); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}

# Open descriptors and mappings of the VMM, KiB of memory that is not the guest's, pages that anybody's DMA holds, and entries
# of the disk's page table (0 where the kernel does not show them: Debian's does not)
page_table() { echo "/sys/kernel/debug/iommu/intel/$disk/domain_translation_struct"; }
holdings() {
    local pid=${guest_pid[it]}
    sleep 0.5 # what is gone for the API is freed on the loop a moment later
    mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
    echo "$(find "/proc/$pid/fd" -type l | wc -l) $(wc -l <"/proc/$pid/maps") $(awk '/^RssAnon/ { print $2 }' "/proc/$pid/status")" \
        "$(awk '/^nr_foll_pin_acquired/ { held += $2 } /^nr_foll_pin_released/ { held -= $2 } END { print held }' /proc/vmstat)" \
        "$(sed -n '/^0x/p' "$(page_table)" 2>/dev/null | wc -l)"
}

# leaks_nothing BEFORE AFTER: memory may still grow by what allocators do
leaks_nothing() {
    local -a before after
    read -ra before <<<"$1"
    read -ra after <<<"$2"
    echo "before $1, after $2"
    [ "${after[0]}" = "${before[0]}" ] && [ "${after[1]}" -le "${before[1]}" ] && [ "${after[2]}" -le $((before[2] + 256)) ] &&
        [ "${after[3]}" = "${before[3]}" ] && [ "${after[4]}" -le "${before[4]}" ]
}

# shows_up WITHOUT WITH: all of this grows with the device, where the kernel shows it; or a leak would not be seen
shows_up() {
    local -a without with
    read -ra without <<<"$1"
    read -ra with <<<"$2"
    echo "without $1, with $2"
    [ "${with[0]}" -gt "${without[0]}" ] && [ "${with[1]}" -gt "${without[1]}" ] &&
        { ! grep -q ^nr_foll_pin_acquired /proc/vmstat || [ "${with[3]}" -ge $((256 << 8)) ]; } &&
        { [ ! -e "$(page_table)" ] || [ "${with[4]}" -gt 0 ]; }
}

complaints_of_the_disk_only() {
    local said
    said=$(answer "dmesg -r | grep -E '^<[0-3]>|WARNING: CPU|BUG:|hung' | grep -vE 'nvme0n1|nvme nvme0|Buffer I/O'" 60)
    [ -z "$said" ] || { echo "$said"; return 1; }
}

case ${1:?which inox} in
    --inside) inside "${@:2}" ;;
    *) outside "$1" ;;
esac
