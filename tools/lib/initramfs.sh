# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The two initramfs files: of small guests, and of the lab machine. Named by what went into them, so that a change makes
# a new one. Needs common.sh and kernels.sh.

# initramfs KIND KERNEL...: prints the path; KIND guest or lab; KERNEL: Debian kernels whose modules go in
initramfs() {
    local kind=$1 kernel dirs=() file
    shift
    need busybox-static python3-minimal gcc libc6-dev
    for kernel; do dirs+=("$(debian_kernel "$kernel")"); done
    file=$cache/initramfs/$kind-$(initramfs_key "$kind" "${dirs[@]}").cpio
    [ -e "$file" ] || with_lock "initramfs-$kind" build_initramfs "$kind" "$file" "${dirs[@]}"
    echo "$file"
}

initramfs_key() {
    local kind=$1 dir
    shift
    {
        cat "$root"/tools/guest/{init.c,"$kind-run.sh",mkcpio.py} "$root/tools/lib/initramfs.sh"
        sha256sum </bin/busybox
        for dir; do cat "$dir/SHA256SUMS"; done
    } | sha256sum | head -c 16
}

build_initramfs() {
    local kind=$1 file=$2 dir tmp
    shift 2
    [ ! -e "$file" ] || return 0
    mkdir -p "$cache/initramfs"
    scratch tmp
    gcc -static -Os -s -Wl,--gc-sections -ffunction-sections -o "$tmp/init" "$root/tools/guest/init.c"
    for dir; do bundle_modules "$kind" "$dir" "$tmp"; done
    initramfs_spec "$kind" "$tmp" | python3 "$root/tools/guest/mkcpio.py" "$tmp/cpio"
    mv "$tmp/cpio" "$file.new"
    mv "$file.new" "$file"
}

# bundle_modules KIND KERNEL-DIR TMP: the modules of one kernel as one small archive, unpacked only by that kernel:
# unpacking a few MB for each kernel before the first user instruction would cost every boot
bundle_modules() {
    local release
    release=$(cat "$2/release")
    mkdir -p "$3/$release"
    cp "$2/$1.order" "$3/$release/order"
    (cd "$2/modules" && xargs cp -t "$3/$release" <"../$1.order")
    tar -C "$3/$release" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c . | gzip -9n >"$3/$release.tar.gz"
}

initramfs_spec() {
    local d applet archive
    for d in bin dev etc etc/inox lib lib/modules root tmp; do echo "dir /$d 755"; done
    echo "node /dev/console 600 c 5 1"
    echo "node /dev/null 666 c 1 3"
    echo "file /init 755 $2/init"
    echo "file /etc/inox/run 755 $root/tools/guest/$1-run.sh"
    echo "file /bin/busybox 755 /bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || echo "link /bin/$applet busybox"
    done
    for archive in "$2"/*.tar.gz; do
        [ ! -e "$archive" ] || echo "file /lib/modules/${archive##*/} 644 $archive"
    done
}
