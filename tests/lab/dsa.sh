#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsa.sh INOX: a Linux guest uses the accelerator and PASIDs from user space, by plain stores.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
inox=$(readlink -f "$1")
kernel=6.12

work=$(dirname "$inox")/lab-dsa # the lab machine sees it too

if [ -z "${INOX_LAB:-}" ]; then
    "$root/tools/dev" kernel $kernel >/dev/null || { echo "SKIP Debian's kernel cannot be had here"; exit 77; }
    "$root/tools/dev" initramfs >/dev/null || { echo "SKIP the initramfs cannot be built here"; exit 77; }
    mkdir -p "$work"
    # The program comes in a second archive behind the initramfs.
    gcc -static -O2 -s -o "$work/dsa-copy" "$root/tools/guest/dsa-copy.c"
    echo "file /bin/dsa-copy 755 $work/dsa-copy" | python3 "$root/tools/guest/mkcpio.py" "$work/more.cpio"
    cat "$("$root/tools/dev" initramfs)" "$work/more.cpio" >"$work/initrd"
    status=0
    "$root/tools/lab" --smp 1 --timeout 240 -- bash "$0" "$inox" </dev/null || status=$?
    [ $status != 126 ] || { echo "SKIP the lab machine cannot start here"; exit 77; }
    exit $status
fi

# ---- in the lab
line='/bin/dsa-copy; exit $?'
status=0
"$inox" run --kernel "$("$root/tools/dev" kernel $kernel)" --initrd "$work/initrd" --memory 256M --dsa \
    --cmdline "console=ttyS0 quiet panic=-1 inox.sh=$(echo "$line" | base64 -w0)" --timeout 180s </dev/null \
    >/tmp/out 2>/tmp/err || status=$?
if [ $status = 0 ] && grep -q 'dsa-copy: all is well' /tmp/out; then
    echo "PASS two PASIDs copy their own memory; one freed in flight and allocated again"
else
    echo "FAIL status $status"
    tail -n 15 /tmp/out /tmp/err
    exit 1
fi
