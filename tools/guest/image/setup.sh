#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# setup.sh TREE: makes an unpacked Debian the system of our image: root's password is "inox", login on the serial
# console, nothing at the start that a test does not need.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
tree=$1

echo inox-debian >"$tree/etc/hostname"
printf '127.0.0.1 localhost inox-debian\n' >"$tree/etc/hosts"
echo 696e6f786465626961696d6167650001 >"$tree/etc/machine-id"
: >"$tree/etc/fstab"
: >"$tree/etc/motd"

# A light hash: the default one takes an emulated CPU many seconds
# shellcheck disable=SC2016  # no shell variables, but a password's hash
hash='$6$rounds=1000$inox$qExGwChZozR7adsgF9IlHvlLuiIKRM0L/dajc10s32OtC.ZvAEca8cPhSPRTdwXjFZDq4LFXXfkrepJQrM5zt1'
sed -i "s,^root:[^:]*:,root:$hash:," "$tree/etc/shadow"

mkdir -p "$tree/etc/systemd/journald.conf.d" "$tree/etc/systemd/system.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$tree/etc/systemd/journald.conf.d/inox.conf"
printf '%s\n' '[Manager]' DefaultTimeoutStartSec=300s DefaultTimeoutStopSec=20s DefaultDeviceTimeoutSec=300s \
    >"$tree/etc/systemd/system.conf.d/inox.conf"
grep -v '^#' "$here/masked" | while read -r unit; do ln -sfn /dev/null "$tree/etc/systemd/system/$unit"; done
ln -sfn /lib/systemd/system/multi-user.target "$tree/etc/systemd/system/default.target"
