# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# One Debian guest, described once, as a command line of inox or of QEMU. Sourced.
#
#   machine=( [kernel]=.. [initrd]=.. [disk]=.. )       settings: see inox_command; those not set are left out
#   vmm_command inox|qemu                               sets the array $vmm
#   vmm_offers OPTION                                   this inox has --OPTION

declare -A machine=()
vmm=()
inox=${inox:-}

cmdline() { echo "console=ttyS0 quiet loglevel=1 panic=-1 net.ifnames=0 root=/dev/vda rw ${machine[words]:-}"; }

vmm_offers() { "$inox" run --help | grep -q -- "^ *--$1 "; }

vmm_command() { "$1_command"; }

# kernel initrd cpus memory(MiB) disk queues; disk2 (read-only) disk3; tap mac pairs; cid uds; entropy balloon(MiB) console(a file); share(a socket)
inox_command() {
    vmm=("$inox" run --kernel "${machine[kernel]}" --initrd "${machine[initrd]}" --cpus "${machine[cpus]:-1}"
        --memory "${machine[memory]:-512}M" --cmdline "$(cmdline)" --disk "path=${machine[disk]}${machine[queues]:+,queues=${machine[queues]}}")
    [ -z "${machine[disk2]:-}" ] || vmm+=(--disk "path=${machine[disk2]},readonly=on")
    [ -z "${machine[disk3]:-}" ] || vmm+=(--disk "path=${machine[disk3]}${machine[queues]:+,queues=${machine[queues]}}")
    [ -z "${machine[tap]:-}" ] || vmm+=(--net "tap=${machine[tap]},mac=${machine[mac]}${machine[pairs]:+,queues=${machine[pairs]}}")
    [ -z "${machine[cid]:-}" ] || vmm+=(--vsock "cid=${machine[cid]},uds=${machine[uds]}")
    [ -z "${machine[entropy]:-}" ] || vmm+=(--entropy)
    [ -z "${machine[balloon]:-}" ] || vmm+=(--balloon "size=${machine[balloon]},free_page_reporting=on")
    [ -z "${machine[console]:-}" ] || vmm+=(--console "${machine[console]}")
    [ -z "${machine[share]:-}" ] || vmm+=(--share "tag=share,socket=${machine[share]}")
}

# The same machine as QEMU would be used for it: modern virtio on PCI, host page cache, no vhost-net. Its vsock is the kernel's.
qemu_command() {
    vmm=(qemu-system-x86_64 -M q35 -accel kvm -cpu host -nodefaults -no-user-config -display none -no-reboot -serial stdio
        -smp "${machine[cpus]:-1}" -m "${machine[memory]:-512}" -kernel "${machine[kernel]}" -initrd "${machine[initrd]}"
        -append "$(cmdline) reboot=t")
    qemu_disk disk "${machine[disk]}"
    [ -z "${machine[disk2]:-}" ] || vmm+=(-drive "if=none,id=disk2,format=raw,readonly=on,file=${machine[disk2]}"
        -device "virtio-blk-pci,drive=disk2,disable-legacy=on")
    [ -z "${machine[disk3]:-}" ] || qemu_disk disk3 "${machine[disk3]}"
    [ -z "${machine[tap]:-}" ] || vmm+=(-netdev "tap,id=net,ifname=${machine[tap]},script=no,downscript=no,vhost=off${machine[pairs]:+,queues=${machine[pairs]}}"
        -device "virtio-net-pci,netdev=net,disable-legacy=on,mac=${machine[mac]}${machine[pairs]:+,mq=on,vectors=$((2 * machine[pairs] + 2))}")
    [ -z "${machine[cid]:-}" ] || vmm+=(-device "vhost-vsock-pci,guest-cid=${machine[cid]},disable-legacy=on")
    [ -z "${machine[entropy]:-}" ] || vmm+=(-device virtio-rng-pci)
    [ -z "${machine[balloon]:-}" ] || vmm+=(-device virtio-balloon-pci)
    [ -z "${machine[console]:-}" ] || vmm+=(-device virtio-serial-pci -chardev "null,id=console" -device "virtconsole,chardev=console")
    [ -z "${machine[share]:-}" ] || vmm+=(-object "memory-backend-memfd,id=ram,size=${machine[memory]:-512}M,share=on"
        -machine memory-backend=ram -chardev "socket,id=share,path=${machine[share]}" -device "vhost-user-fs-pci,chardev=share,tag=share")
}

qemu_disk() {
    vmm+=(-drive "if=none,id=$1,format=raw,cache=writeback,aio=${machine[aio]:-threads},file=$2"
        -device "virtio-blk-pci,drive=$1,disable-legacy=on,num-queues=${machine[queues]:-1}")
}

# The host's ends of the guest's vsock, as talk names them
vsock_to_guest() { if [ "$1" = qemu ]; then echo "vsock:${machine[cid]}:$2"; else echo "unix:${machine[uds]}:$2"; fi; }
vsock_from_guest() { if [ "$1" = qemu ]; then echo "vsock:2:$2"; else echo "unix:${machine[uds]}_$2"; fi; }

# make_tap NAME ADDRESS/BITS [multi_queue]: in this network namespace
make_tap() {
    ip tuntap add dev "$1" mode tap ${3:+"$3"}
    ip address add "$2" dev "$1"
    ip link set "$1" up
}
