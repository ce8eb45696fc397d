#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a guest does after the greeting: modules that fit its kernel, then the shell line of the kernel command line
# (inox.sh=BASE64), whose exit status ends the guest, and whose output goes to inox.out=TERMINAL, where that is given
# (the kernel's messages stay on the console); or with root=DEVICE the system on that disk; or an interactive shell.

mkdir -p /proc /sys /dev /tmp /run /mnt /root /var
/bin/busybox mount -t proc proc /proc       # from here on the shell finds every applet in itself
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run

# word NAME: the value of NAME= on the kernel command line
word() { sed -n "s/^\(.* \)*$1=\([^ ]*\).*/\2/p" /proc/cmdline; }

# start_system DEVICE: mounts it and leaves process 1 its next act; a status that is not 0 ends the guest
start_system() {
    device=$1 mode=ro
    ! grep -qw rw /proc/cmdline || mode=rw
    type=$(word rootfstype)
    mkdir /newroot
    load "${type:-ext4}"
    for _ in $(seq 100); do
        case $device in
            LABEL=* | UUID=*) device=$(findfs "$1") ;;
        esac
        [ ! -b "$device" ] || break
        sleep 0.1
    done
    mount -t "${type:-ext4}" -o "$mode" "$device" /newroot ||
        { echo "inox: no root file system on ${device:-$1}"; return 1; }
    echo "exec /bin/busybox switch_root /newroot $(word init | grep . || echo /sbin/init)" > /etc/inox/next
    for d in dev sys proc; do mount --move "/$d" "/newroot/$d" || return 1; done      # proc last: the shell needs it
}

. /etc/inox/modules.sh
load_for_devices
line=$(word inox.sh)
root=$(word root)
if [ -z "$line" ] && [ -n "$root" ]; then
    start_system "$root"
    exit
fi
uevent /etc/inox/modules.sh > /dev/null 2>&1 < /dev/null &     # what is plugged in later
busybox --install -s /bin
hostname inox
ip link set lo up 2>/dev/null

cd /root || exit 1
if [ -n "$line" ]; then
    out=$(word inox.out)
    for _ in ${out:+$(seq 100)}; do
        [ ! -c "/dev/$out" ] || break
        sleep 0.1
    done
    exec cttyhack sh -c "${out:+exec >/dev/$out; }$(echo "$line" | base64 -d)"
fi
echo "a shell in the guest; its exit ends the guest"
exec cttyhack sh -l
