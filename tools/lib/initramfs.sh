# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The two initramfs files: of small guests, and of the lab machine. Named by what went into them, so that a change makes
# a new one. Needs common.sh and kernels.sh.

# initramfs KIND WHAT...: prints the path; KIND guest or lab; WHAT: Debian kernels whose modules go in (names, or paths
# of their directories), and modules of our own (paths that end in .ko), which lie in /etc/inox then
initramfs() {
    local kind=$1 what parts=() file
    shift
    need busybox-static python3 gcc libc6-dev
    for what; do
        case $what in
            */*) parts+=("$what") ;;
            *) parts+=("$(debian_kernel "$what")") ;;
        esac
    done
    file=$cache/initramfs/$kind-$(initramfs_key "$kind" "${parts[@]}").cpio
    [ -e "$file" ] || with_lock "initramfs-$kind" build_initramfs "$kind" "$file" "${parts[@]}"
    echo "$file"
}

initramfs_key() {
    local kind=$1 part
    shift
    {
        cat "$root"/tools/guest/{init.c,"$kind-run.sh",modules.sh,watch.sh,mkcpio.py} "$root/tools/lib/initramfs.sh"
        sha256sum </bin/busybox
        for part; do
            if [ -d "$part" ]; then cat "$part/SHA256SUMS"; else sha256sum <"$part"; fi
        done
    } | sha256sum | head -c 16
}

build_initramfs() {
    local kind=$1 file=$2 tmp
    shift 2
    [ ! -e "$file" ] || return 0
    in_cache initramfs
    scratch tmp
    gcc -static -Os -s -Wl,--gc-sections -ffunction-sections -o "$tmp/init" "$root/tools/guest/init.c"
    initramfs_spec "$kind" "$tmp" "$@" | python3 "$root/tools/guest/mkcpio.py" "$tmp/cpio"
    mv "$tmp/cpio" "$file.new"
    mv "$file.new" "$file"
    find "$cache/initramfs" -name '*.cpio' -mtime +7 -delete        # what earlier versions of their parts made
}

# initramfs_spec KIND TMP KERNEL-DIR-OR-MODULE...: what mkcpio.py reads. Nothing is compressed: unpacking costs every
# boot more than reading does.
initramfs_spec() {
    local kind=$1 tmp=$2 d part release file
    shift 2
    for d in bin dev etc etc/inox lib lib/modules root sbin tmp; do echo "dir /$d 755"; done
    echo "node /dev/console 600 c 5 1"
    echo "node /dev/null 666 c 1 3"
    echo "file /init 755 $tmp/init"
    echo "file /etc/inox/run 755 $root/tools/guest/$kind-run.sh"
    for file in modules watch; do echo "file /etc/inox/$file.sh 755 $root/tools/guest/$file.sh"; done
    echo "file /bin/busybox 755 /bin/busybox"
    echo "link /bin/sh busybox"
    echo "link /sbin/modprobe ../bin/busybox"
    for part; do
        if [ ! -d "$part" ]; then
            echo "file /etc/inox/${part##*/} 644 $part"
            continue
        fi
        release=$(cat "$part/release")
        echo "dir /lib/modules/$release 755"
        for file in modules.dep modules.alias $(cat "$part/$kind.files"); do
            echo "file /lib/modules/$release/$file 644 $part/modules/$file"
        done
    done
}
