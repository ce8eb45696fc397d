#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A Debian system lives on inox's devices: disk, network, vsock, entropy, balloon, console and a shared folder at once. It is
# used over its serial console, rebooted, and used again with 4 CPUs. All of it in one start of the lab machine.
#   debian.sh INOX
# INOX_TEST_VMM=qemu: QEMU in its place, to tell a fault of inox from one of the lab. INOX_TEST_KERNEL: 6.1-cloud, 6.1, 6.12.
# INOX_DEBIAN_STRESS=MINUTES: instead, disk, network and vsock are busy for so long (tools/dev stress).
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
. "$here/lib.sh"
. "$here/expect.sh"
. "$here/vmms.sh"

vmm_name=${INOX_TEST_VMM:-inox}
minutes=${INOX_DEBIAN_STRESS:-}
kernel_name=${INOX_TEST_KERNEL:-6.1-cloud}
noise_bytes=$((64 << 20))
host_ip=192.0.2.1
guest_ip=192.0.2.2
network="ip link set eth0 up && ip address add $guest_ip/24 dev eth0"
keep='mkdir -p /root/kept && cd /root/kept && head -c 20000000 /dev/urandom >a && seq 100000 >b && sha256sum a b >sums && sync'

outside() {
    local work image
    inox=$(readlink -f "$1")
    [ "$vmm_name" = qemu ] || vmm_offers disk || skip "this inox has no --disk"
    "$root/tools/dev" kernel "$kernel_name" >/dev/null || skip "Debian's $kernel_name kernel cannot be had here"
    "$root/tools/dev" initramfs >/dev/null || skip "the initramfs cannot be built here"
    image=$("$root/tools/dev" image) || skip "the Debian image cannot be built here"
    work=$(mktemp -d /tmp/inox-debian.XXXXXX) || exit
    at_end 'rm -rf "$work" "$expect_dir"'
    head -c "$noise_bytes" /dev/urandom >"$work/noise"
    sha256sum <"$work/noise" | cut -d' ' -f1 >"$work/noise.sum"
    gcc -static -O2 -o "$work/talk" "$root/tools/guest/talk.c" || exit
    cp --sparse=always --reflink=auto "$image" "$work/disk" || exit
    # One emulated CPU: with two, QEMU now and then runs code that the other has just patched, and a kernel dies of it
    lab_test --smp 1 --memory 3072 --timeout $((2400 + 90 * ${minutes:-0})) --out "$work" -- "$here/debian.sh" --inside "$inox" "$work"
    name=afterwards
    check "the file system is clean" e2fsck -fn "$work/disk" || status=1
    exit "$status"
}

inside() {
    [ "$(id -u)" = 0 ] || skip "root is needed, for a TAP in a network of its own"
    exec unshare --net "$here/debian.sh" --in-network "$@"
}

in_network() {
    inox=$1 work=$2 failed=0
    at_end 'stop_all; kill $(jobs -p) 2>/dev/null || true; rm -rf "$expect_dir"'
    choose_machine
    prepare_host
    if [ -n "$minutes" ]; then stressed_life
    else two_lives; fi
    exit $failed
}

two_lives() {
    boot 1 || return
    use
    check "keeps files" guest it "$keep" 200
    leave reboot
    several_queues
    boot 4 || return
    check "has the disk's queues" says 4 'ls /sys/block/vda/mq | wc -l'
    ! has tap || check "has the network's queues" says 2 'ls -d /sys/class/net/eth0/queues/rx-* | wc -l'
    check "finds its files after the reboot" guest it "cd /root/kept && sha256sum -c sums && rm -r /root/kept" 100
    use
    leave poweroff
}

# A queue for each of 4 CPUs on the disks, two pairs on the network
several_queues() {
    machine[queues]=4
    has tap || return 0
    machine[pairs]=2
    ip link delete "${machine[tap]}"
    make_tap "${machine[tap]}" $host_ip/24 multi_queue
}

# Disk, network and vsock are busy at once; each loop ends with status 1 at the first wrong byte. Its turns are counted.
stressed_life() {
    several_queues
    boot 4 || return
    ! has tap || check "brings its network up" guest it "$network"
    stress disk 'fio --minimal --name=disk --filename=/dev/vdc --ioengine=libaio --direct=1 --iodepth=16 --rw=randwrite --bsrange=4k-256k --verify=crc32c --verify_fatal=1'
    stress files 'cp -r /usr/include /root/a && diff -r /usr/include /root/a && rm -r /root/a'
    ! has tap || stress tcp "talk to tcp:$host_ip:5001 check 16777216"
    ! has cid || stress vsock "talk to vsock:2:5002 check 4194304"
    sleep $((minutes * 60))
    check "is awake after $minutes minutes" guest it "touch /tmp/enough" 200
    ! has tap || stress_result tcp
    ! has cid || stress_result vsock
    stress_result files
    stress_result disk
    no_complaint
    leave poweroff
}

# stress NAME LINE: the guest does it again and again until /tmp/enough exists
stress() {
    check "starts with: $1" guest it "( (turns=0; until [ -e /tmp/enough ]; do { $2; } >/tmp/$1.log 2>&1 || break; turns=\$((turns + 1)); echo \$turns >/tmp/$1.turns; done; [ -e /tmp/enough ]; echo \$? >/tmp/$1.status) & )"
}

stress_result() {
    check "loses nothing: $1" guest it "until [ -e /tmp/$1.status ]; do sleep 1; done; tail -n 3 /tmp/$1.log; [ \$(cat /tmp/$1.status) = 0 ] && [ -e /tmp/$1.turns ]" 600
    echo "NOTE $name: $(guest it "cat /tmp/$1.turns") turns: $1"
}

# choose_machine: every device this VMM has
choose_machine() {
    machine=([kernel]=$("$root/tools/dev" kernel "$kernel_name") [initrd]=$("$root/tools/dev" initramfs) [memory]=512
        [disk]=$work/disk [disk2]=$work/noise)
    [ -z "$minutes" ] || machine[disk3]=/tmp/stress.disk
    with net && machine+=([tap]=inox0 [mac]=02:00:00:00:00:02)
    with vsock && machine+=([cid]=3 [uds]=/tmp/vsock)
    with entropy && machine[entropy]=1
    with balloon && machine[balloon]=32
    with console && machine[console]=/tmp/hvc0
    with share && machine[share]=/tmp/share.socket
    true
}

with() {
    [ "$vmm_name" = qemu ] || vmm_offers "$1" || { echo "NOTE this inox has no --$1"; return 1; }
}

prepare_host() {
    ! has disk3 || truncate -s 300M /tmp/stress.disk
    ip link set lo up
    if has tap; then
        make_tap inox0 $host_ip/24
        "$work/talk" serve tcp:$host_ip:5001 &
    fi
    ! has cid || "$work/talk" serve "$(vsock_from_guest "$vmm_name" 5002)" &
    mkdir -p "$work/shared"
    echo "from the host" >"$work/shared/host"
}

has() { [ -n "${machine[$1]:-}" ]; }

# boot CPUS: to a shell of root
boot() {
    local begin=$SECONDS
    name="$1 CPU" machine[cpus]=$1
    if has share; then start_share; fi
    vmm_command "$vmm_name"
    start it "${vmm[@]}"
    check "logs in on the serial console" log_in it 400 || return
    echo "NOTE $name: from start to login $((SECONDS - begin)) s, of it $(guest it 'systemd-analyze time | head -n 1')"
    check "has its CPUs" says "$1" nproc
    check "has a driver for every virtio device" says "" \
        'for d in /sys/bus/virtio/devices/*; do [ -e $d/driver ] || echo $d $(cat $d/modalias); done'
}

# A daemon serves one guest's life
start_share() {
    local daemon
    for daemon in /usr/lib/qemu/virtiofsd /usr/libexec/virtiofsd; do [ ! -x $daemon ] || break; done
    "$daemon" --socket-path="${machine[share]}" -o source="$work/shared" -o sandbox=chroot >/tmp/virtiofsd.log 2>&1 &
    for _ in $(seq 100); do
        [ ! -S "${machine[share]}" ] || return 0
        sleep 0.1
    done
}

use() {
    check "reads the second disk right" says "$(cat "$work/noise.sum")" 'dd if=/dev/vdb bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
    check "may not write to it" says "refused" 'dd if=/dev/zero of=/dev/vdb bs=4096 count=1 oflag=direct 2>/dev/null || echo refused'
    check "compiles and runs a program" compiles
    ! has tap || use_network
    ! has cid || use_vsock
    ! has entropy || check "has entropy" says "virtio_rng.0 64" 'echo $(cat /sys/class/misc/hw_random/rng_current) $(head -c 64 /dev/hwrng | wc -c)'
    ! has console || use_console
    ! has balloon || [ "$vmm_name" = qemu ] || use_balloon
    ! has share || use_share
    no_complaint
}

no_complaint() {
    check "has no complaint in its log" says "" "dmesg | grep -iE 'WARNING: CPU|BUG:|Oops|I/O error|virtio.*(fail|error)|hung task' || true"
}

use_network() {
    check "brings its network up" guest it "$network"
    check "pings the host" guest it "ping -q -c 5 -i 0.2 -W 10 $host_ip" 100
    check "sends and gets 32 MiB over TCP" guest it "talk to tcp:$host_ip:5001 check 33554432" 200
    check "serves the host over TCP" from_host "tcp:0.0.0.0:5003" "tcp:$guest_ip:5003"
}

use_vsock() {
    check "sends and gets 8 MiB over vsock" guest it "talk to vsock:2:5002 check 8388608" 200
    check "serves the host over vsock" from_host "vsock:0:5004" "$(vsock_to_guest "$vmm_name" 5004)"
}

# Pages on the host, in KiB, of what the VMM has: the guest's memory, most of it
resident() { awk '/^Rss:/ { print $2 }' "/proc/${guest_pid[it]}/smaps_rollup"; }

# What the guest frees goes back to the host by itself
use_balloon() {
    local full limit=$((SECONDS + 300))
    check "gave ${machine[balloon]} MiB to the balloon" says "${machine[balloon]}" "awk '/^balloon_inflate/ { print \$2 / 256 }' /proc/vmstat"
    check "fills 160 MiB" guest it 'head -c 160M /dev/zero >/dev/shm/fill' 100
    full=$(resident)
    check "frees them" guest it 'rm /dev/shm/fill'
    while [ "$(resident)" -gt $((full - (120 << 10))) ] && [ $SECONDS -lt $limit ]; do sleep 0.5; done
    check "gives at least 120 MiB of them back to the host ($full KiB, then $(resident))" [ "$(resident)" -le $((full - (120 << 10))) ]
}

use_console() {
    check "writes to its console" guest it 'timeout 20 sh -c "echo a line of $(nproc) >/dev/hvc0"'
    [ "$vmm_name" = qemu ] || check "which the host finds" grep -q "a line of ${machine[cpus]}" "${machine[console]}"
}

# from_host GUEST-ADDRESS HOST-ADDRESS: a server in the guest, and this side as its client
from_host() {
    guest it "(talk serve $1 >/dev/null 2>&1 & echo \$! >/tmp/server)" &&
        "$work/talk" to "$2" check 8388608 && guest it 'kill $(cat /tmp/server)'
}

use_share() {
    check "mounts the shared folder" guest it "mount -t virtiofs share /mnt"
    check "reads the host's file" says "from the host" "cat /mnt/host"
    check "writes one" guest it "uname -r >/mnt/guest && umount /mnt"
    check "which the host finds" [ "$(cat "$work/shared/guest" 2>/dev/null)" = "$(guest it 'uname -r')" ]
}

compiles() {
    guest it "cd /tmp && printf '#include <stdio.h>\nint main(void) { return printf(\"six times seven is %%d\\\\n\", 6 * 7) < 0; }\n' >six.c" &&
        guest it "cc -O2 -Wall -o six six.c" 200 && says "six times seven is 42" ./six
}

# says TEXT LINE: the guest's shell line prints exactly this
says() {
    local said
    said=$(guest it "$2" 200) || return
    [ "$said" = "$1" ] || { echo "said '$said', not '$1'"; return 1; }
}

# leave WORD: the guest ends itself so, and the VMM with status 0
leave() {
    type_line it "$1"
    check "ends by $1" finish it 200
    check "with status 0" [ "$ended" = 0 ]
}

# check TEXT COMMAND...: what the command prints is shown when it fails
check() {
    local text=$1 begin=$SECONDS
    shift
    if "$@" >"$expect_dir/output" 2>&1; then
        echo "PASS $name: $text ($((SECONDS - begin)) s)"
    else
        echo "FAIL $name: $text"
        sed 's/^/  /' "$expect_dir/output"
        tail -n 5 "$expect_dir"/it.{log,err} 2>/dev/null | sed 's/^/  | /' || true
        failed=1
        return 1
    fi
}

case ${1:?which inox} in
    --inside) inside "${@:2}" ;;
    --in-network) in_network "${@:2}" ;;
    *) outside "$1" ;;
esac
