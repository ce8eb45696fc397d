#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2028  # the guest shell expands it
# A disk and a network interface come and go in running Debian kernels, by the control API; the guest uses them without being
# told, gives them back, and inox keeps nothing of them. On the way the guest reads its metadata over the network. All of it
# in one start of the lab machine.
#   hotplug.sh INOX
# INOX_TEST_KERNELS: which kernels (default: 6.12 and 6.1-cloud). INOX_HOTPLUG_TURNS: how often (default 10).
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
. "$here/lib.sh"
. "$here/expect.sh"
. "$here/control.sh"

kernels=${INOX_TEST_KERNELS:-6.12 6.1-cloud}
turns=${INOX_HOTPLUG_TURNS:-10}
socket=/tmp/hotplug.api
host_ip=192.0.2.1
guest_ip=192.0.2.2

outside() {
    local inox kernel
    inox=$(readlink -f "$1")
    command -v curl >/dev/null || skip "curl is missing"
    for kernel in $kernels; do
        "$root/tools/dev" kernel "$kernel" >/dev/null || skip "Debian's $kernel kernel cannot be had here"
    done
    "$root/tools/dev" initramfs >/dev/null || skip "the initramfs cannot be built here"
    lab_test --smp 1 --memory 1536 --timeout 600 -- "$here/hotplug.sh" --inside "$inox"
    exit "$status"
}

inside() {
    [ "$(id -u)" = 0 ] || skip "root is needed, for a TAP in a network of its own"
    exec unshare --net "$here/hotplug.sh" --in-network "$@"
}

in_network() {
    local kernel
    inox=$1 failed=0
    at_end 'stop_all; rm -rf "$expect_dir"'
    head -c 3000000 /dev/urandom >/tmp/data.img
    truncate -s 3M /tmp/data.img
    sum=$(sha256sum </tmp/data.img | cut -d' ' -f1)
    ip link set lo up
    for name in inox0 inox1; do ip tuntap add "$name" mode tap && ip link set "$name" up; done
    ip address add $host_ip/24 dev inox1
    for kernel in $kernels; do one_life "$kernel"; done
    exit $failed
}

one_life() {
    name=$1
    boot || return
    local turn before after begin=$SECONDS
    for turn in $(seq "$turns"); do
        once "$turn" || return
        [ "$turn" != 2 ] || before=$(holdings)
    done
    after=$(holdings)
    echo "NOTE $name: $turns turns took $((SECONDS - begin)) s; descriptors, mappings and KiB after the second: $before, at the end: $after"
    check "holds nothing of what is gone" leaks_nothing "$before" "$after"
    torn_out
    by_the_guest
    like_firecracker
    metadata
    check "has no complaint in its log" no_complaint
    panic
}

# The kernel says that it panics, by the driver it found; panic=-1 reboots, and that is inox's end
panic() {
    local reader
    curl -sN --unix-socket $socket http://localhost/inox/events >/tmp/events &
    reader=$!
    for _ in $(seq 100); do
        [ ! -s /tmp/events ] || break       # it has those of before
        sleep 0.1
    done
    type_line it "echo c >/proc/sysrq-trigger"
    check "panic: ends" finish it 60
    check "panic: with its own status" [ "$ended" = 135 ]
    await_end $reader "the reader of events"
    check "panic: is an event" grep -q '"event":"guest-panic"' /tmp/events
}

boot() {
    rm -f $socket /tmp/events
    cat >/tmp/hotplug.json <<END
{
  "boot-source": {
    "kernel_image_path": "$("$root/tools/dev" kernel "$name")",
    "initrd_path": "$("$root/tools/dev" initramfs)",
    "boot_args": "console=ttyS0 quiet loglevel=1 panic=-1 net.ifnames=0"
  },
  "machine-config": { "vcpu_count": 1, "mem_size_mib": 256 },
  "network-interfaces": [{ "iface_id": "first", "host_dev_name": "inox0", "guest_mac": "02:00:00:00:00:01" }],
  "mmds-config": { "network_interfaces": ["first"], "version": "V2" }
}
END
    start it "$inox" run --config /tmp/hotplug.json --api-sock $socket --timeout 500s
    await it "a shell in the guest" 120 || { fail "does not boot"; return 1; }
    await it "# " 60 || { fail "has no shell"; return 1; }
    type_line it "stty -echo; dmesg -n 1; exec env PS1= PS2= sh"
    [[ $(guest it "echo a quiet shell" 60) == *"a quiet shell"* ]]
    check "boots to a shell" says "quiet" "echo quiet"
}

# once TURN: both come, are used, and go
once() {
    check "turn $1: a disk and an interface are added" add_both &&
        check "turn $1: the guest has drivers for both" guest it "until [ -b /dev/vda ] && [ -e /sys/class/net/eth1 ]; do usleep 20000; done" 30 &&
        check "turn $1: reads the disk right" says "$sum" "sha256sum </dev/vda | cut -d' ' -f1" &&
        { [ "$1" != 1 ] || check "turn $1: pings through the interface" guest it "ip link set eth1 up && ip address add $guest_ip/24 dev eth1 && ping -c 2 -W 10 $host_ip" 60; } &&
        check "turn $1: both are asked back" remove_both "" &&
        check "turn $1: the guest gives both back" gone data extra &&
        check "turn $1: and has neither any more" guest it "[ ! -e /dev/vda ] && [ ! -e /sys/class/net/eth1 ]"
}

add_both() {
    api PUT /inox/devices/data '{"disk": {"path_on_host": "/tmp/data.img", "is_read_only": true}}' 204 &&
        api PUT /inox/devices/extra '{"net": {"host_dev_name": "inox1"}}' 204 && listed data && listed extra
}
remove_both() { api DELETE "/inox/devices/data$1" "" 204 && api DELETE "/inox/devices/extra$1" "" 204; }

# Force does not wait for the guest; its drivers let go all the same
torn_out() {
    local turn
    for turn in 1 2; do
        check "force $turn: both are added" add_both
        check "force $turn: the guest has drivers for both" guest it "until [ -b /dev/vda ] && [ -e /sys/class/net/eth1 ]; do usleep 20000; done" 30
        check "force $turn: both are torn out" remove_both "?force=true"
        check "force $turn: nothing is listed" gone data extra
        check "force $turn: the guest notices" guest it "while [ -e /dev/vda ] || [ -e /sys/class/net/eth1 ]; do usleep 20000; done" 30
    done
}

# The guest may give a device back without being asked
by_the_guest() {
    check "eject: a disk is added" api PUT /inox/devices/data '{"disk": {"path_on_host": "/tmp/data.img"}}' 204
    check "eject: the guest has it" guest it "until [ -b /dev/vda ]; do usleep 20000; done" 30
    check "eject: the guest switches its slot off" guest it 'd=$(readlink -f /sys/block/vda/device); s=${d%/virtio*}; s=${s##*/}; for p in /sys/bus/pci/slots/*; do ! grep -q "^${s%.*}$" $p/address || echo 0 >$p/power; done'
    check "eject: it is gone" gone data
}

like_firecracker() {
    check "Firecracker's paths: a disk is added" api PUT /drives/data '{"drive_id": "data", "path_on_host": "/tmp/data.img", "is_root_device": false}' 204
    check "Firecracker's paths: the guest has it" guest it "until [ -b /dev/vda ]; do usleep 20000; done" 30
    check "Firecracker's paths: not twice" api PUT /drives/data '{"drive_id": "data", "path_on_host": "/tmp/data.img", "is_root_device": false}' 400
    check "Firecracker's paths: it is removed" api DELETE /drives/data "" 204
    check "Firecracker's paths: it is gone" gone data
}

# By nc: Debian's static busybox crashes in wget, when it looks up the service's name
metadata() {
    local ask token='X-metadata-token: $(cat /tmp/token)'
    ask() { echo "printf '$1 HTTP/1.1\r\n%sConnection: close\r\n\r\n' \"${2:+$2\$(printf '\\r\\n_')}\" | tr -d _ | nc -w 20 169.254.169.254 80 | sed '1,/^.\$/d'"; }
    check "metadata: is stored" api PUT /mmds '{"latest": {"meta-data": {"ami-id": "ami-1", "n": 7}}}' 204
    check "metadata: an address and a route" guest it "ip link set eth0 up && ip address add 198.51.100.2/24 dev eth0 && ip route add 169.254.169.254 dev eth0"
    check "metadata: nothing without a token" says "yes" "$(ask 'GET /latest') | grep -q '^No MMDS token' && echo yes" 60
    check "metadata: a token" guest it "$(ask 'PUT /latest/api/token' 'X-metadata-token-ttl-seconds: 300') >/tmp/token; [ \$(wc -c </tmp/token) = 48 ]" 60
    check "metadata: keys as text" says "meta-data/" "$(ask 'GET /latest' "$token")" 60
    check "metadata: a value as text" says "ami-1" "$(ask 'GET /latest/meta-data/ami-id' "$token")" 60
    check "metadata: is changed" api PATCH /mmds "{\"latest\": {\"meta-data\": {\"ami-id\": \"$(seq -s, 8000)\"}}}" 204
    check "metadata: 38 KB in order" says "$(printf %s "$(seq -s, 8000)" | sha256sum)" "$(ask 'GET /latest/meta-data/ami-id' "$token") | sha256sum" 60
}

# Open descriptors, mappings, and KiB of memory that is not the guest's, of the VMM
holdings() {
    local pid=${guest_pid[it]}
    echo "$(find "/proc/$pid/fd" -type l | wc -l) $(wc -l <"/proc/$pid/maps") $(awk '/^RssAnon/ { print $2 }' "/proc/$pid/status")"
}

# leaks_nothing BEFORE AFTER: memory may still grow by what allocators do
leaks_nothing() {
    local -a before after
    read -ra before <<<"$1"
    read -ra after <<<"$2"
    [ "${after[0]}" = "${before[0]}" ] && [ "${after[1]}" -le "${before[1]}" ] && [ "${after[2]}" -le $((before[2] + 256)) ]
}

case ${1:?which inox} in
    --inside) inside "${@:2}" ;;
    --in-network) in_network "${@:2}" ;;
    *) outside "$1" ;;
esac
