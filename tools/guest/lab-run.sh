#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the lab machine does after its start: mounts the host's files, runs the command, hands its status and the kernel
# log to tools/lab. lab=DIR on the kernel command line names the directory of the host in which tools/lab left its
# orders:
#   DIR/orders    variables of this script      DIR/command   the command, for bash

mkdir -p /proc /sys /dev /run /raw /host
/bin/busybox mount -t proc proc /proc       # from here on the shell finds every applet in itself
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd
for f in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${f#*:}" "/dev/${f%:*}"; done
mkdir -p /dev/net
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200      # with Debian's kernel, opening it loads the module
[ -e /dev/vhost-net ] || mknod /dev/vhost-net c 10 238
[ -e /dev/vhost-vsock ] || mknod /dev/vhost-vsock c 10 241
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null

# port N: the device of the N-th channel to the host (1 stdout, 2 stderr, 3 status, 4 kernel log, 5 signs of life, and
# guests that stand still)
port() { ls /dev/vport*p"$1"; }

share() { mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "$2"; }

# The command's root: the host's, read-only, with what a program wants to write to laid over it. It is laid over /
# itself, since Linux makes no user namespace where the root is not that of all mounts; this script keeps the root
# below it.
make_root() {
    mount --bind /raw /host
    for d in dev proc sys; do mount --rbind "/$d" "/host/$d"; done
    for d in tmp run var/tmp; do mount -t tmpfs -o mode=1777 "${d##*/}" "/host/$d"; done
    mkdir -p /host/run/lock
    for path in $lab_visible; do show "$path"; done
    if [ -n "$lab_out" ]; then
        mkdir -p "/host$lab_out" 2>/dev/null
        share out "/host$lab_out" cache=none
    fi
    cp "/raw$dir/command" /host/run/lab-command
    cd /host && mount --move . /
}

# show PATH: brings back a file or directory of the host that one of these tmpfs hides; a small file as a copy, which
# may be written to
show() {
    path=$(echo "$1" | sed 's/%20/ /g')
    if [ -d "/raw$path" ]; then
        mkdir -p "/host$path" && mount --bind "/raw$path" "/host$path"
    elif [ "$(stat -c %s "/raw$path")" -lt 16777216 ]; then
        mkdir -p "/host${path%/*}" && cp -a "/raw$path" "/host$path"
    else
        mkdir -p "/host${path%/*}" && : > "/host$path" && mount --bind "/raw$path" "/host$path"
    fi
}

run_command() {
    if [ -n "$lab_terminal" ]; then
        # shellcheck disable=SC2086  # two words: rows N cols N
        stty $lab_terminal < /dev/hvc0
        setsid -c chroot . /bin/bash /run/lab-command < /dev/hvc0 > /dev/hvc0 2>&1
        return
    fi
    # Through pipes, since a channel can be opened only once and programs may open /dev/stdout
    mkfifo /run/stdout /run/stderr
    cat /run/stdout > "$(port 1)" &
    first=$!
    cat /run/stderr > "$(port 2)" &
    second=$!
    if [ -n "$lab_merge" ]; then
        exec 8>/run/stderr
        chroot . /bin/bash /run/lab-command < /dev/null > /run/stdout 2>&1 8>&-
    else
        chroot . /bin/bash /run/lab-command < /dev/null > /run/stdout 2> /run/stderr
    fi
    status=$?
    exec 8>&-
    # What the command left running may hold the pipes open: two seconds for the rest, no more
    (sleep 2; kill $first $second) 2>/dev/null &
    wait $first $second
    return $status
}

. /etc/inox/modules.sh
load_for_devices
load 9p 9pnet_virtio kvm_amd
if [ -e /etc/inox/inox_ud.ko ]; then insmod /etc/inox/inox_ud.ko
else load inox_ud inox_svm; fi
ip link set lo up
hostname lab
. /etc/inox/watch.sh
watch() {
    while sleep 5 && echo && sleep 5 && echo; do
        for vm in $(look_at_guests /sys/kernel/debug/kvm /run/watch); do
            echo "stuck $vm"
            entries_of /sys/kernel/tracing | sed 's/^/trace /'
        done
    done
}
# tools/lab ends a machine that says nothing here any more, or that a guest is stuck
watch >"$(port 5)" &
dir=$(sed -n 's/.*\blab=\([^ ]*\).*/\1/p' /proc/cmdline)
share host /raw cache=loose,ro
# shellcheck disable=SC1090
. "/raw$dir/orders"
[ -z "$lab_vfio" ] || load iommufd vfio_pci vfio_iommu_type1
case " $lab_vfio " in *" mtty "*) load mtty ;; esac
make_root
run_command
status=$?
[ $status = 0 ] || dmesg > "$(port 4)"
echo $status > "$(port 3)"
exit 16     # the exit port makes it QEMU's status 33: the machine ended by itself
