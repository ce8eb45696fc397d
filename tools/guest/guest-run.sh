#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a guest does after the greeting: modules that fit its kernel, then the shell line of the kernel command line
# (inox.sh=BASE64), or an interactive shell when there is none. Its exit status ends the guest.

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

. /etc/inox/modules.sh
load_for_devices
uevent /etc/inox/modules.sh > /dev/null 2>&1 < /dev/null &     # what is plugged in later
busybox --install -s /bin
hostname inox
ip link set lo up 2>/dev/null

cd /root || exit 1
line=$(sed -n 's/^\(.* \)*inox\.sh=\([^ ]*\).*/\2/p' /proc/cmdline)
if [ -n "$line" ]; then
    exec cttyhack sh -c "$(echo "$line" | base64 -d)"
fi
echo "a shell in the guest; its exit ends the guest"
exec cttyhack sh -l
