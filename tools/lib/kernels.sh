# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Kernels: Debian's own, fetched by package name, and the lab machine's, built from Debian's source. Needs common.sh
# modules.sh and, for 7.x, suites.sh.
#
# A Debian kernel is kept as one directory of the cache:
#   vmlinuz  config  release  package  SHA256SUMS
#   modules/*.ko  modules/modules.{dep,alias}  guest.files  lab.files     the modules of tools/guest/modules.*

kernel_names="6.1-cloud 6.1 6.12"

# kernel_pattern NAME: which package it is, as apt-cache search reads it
kernel_pattern() {
    case $1 in
        6.1-cloud) echo '^linux-image-6\.1\.0-[0-9]+-cloud-amd64$' ;;
        6.1) echo '^linux-image-6\.1\.0-[0-9]+-amd64$' ;;
        6.12) echo '^linux-image-6\.12\.[0-9]+\+deb1[23]-amd64$' ;;
        7.x) echo '^linux-binary-7\.[0-9.]+\+deb13-amd64$' ;; # of a newer suite
        *) die "no kernel is called '$1'" "take one of: $kernel_names 7.x" ;;
    esac
}

# kernel_dir NAME: where that kernel is or will be; other module lists make another directory
kernel_dir() {
    local lists
    lists=$(cat "$root"/tools/guest/modules.{guest,lab} | sha256sum)
    echo "$cache/kernels/$1-${lists:0:8}"
}

# cached_kernels: names of those that need not be fetched, or of one for beginners
cached_kernels() {
    local name found=''
    for name in $kernel_names; do
        [ ! -e "$(kernel_dir "$name")/SHA256SUMS" ] || found+=" $name"
    done
    echo "${found:-6.1-cloud}"
}

# debian_kernel NAME: prints its directory, fetching it on first use. In the lab the cache is read-only and was checked
# outside.
debian_kernel() {
    local dir
    kernel_pattern "$1" >/dev/null
    dir=$(kernel_dir "$1")
    if [ -z "${INOX_LAB:-}" ] || [ ! -e "$dir/SHA256SUMS" ]; then
        if [ -e "$dir/SHA256SUMS" ] && sums_hold "$dir" vmlinuz; then :
        else with_lock "kernel-$1" fetch_kernel "$1" "$dir"; fi
    fi
    echo "$dir"
}

fetch_kernel() {
    local name=$1 dir=$2 package tmp
    if [ -e "$dir/SHA256SUMS" ]; then
        ! sums_hold "$dir" vmlinuz || return 0      # another process was quicker
        say "the cached kernel $name is damaged, fetching it again"
    fi
    need kmod xz-utils
    in_cache kernels
    scratch tmp "$cache/kernels"
    if [ "$name" = 7.x ]; then
        fetch_split_kernel "$tmp"
    else
        package=$(newest_package "$(kernel_pattern "$name")")
        say "fetching Debian's $package"
        download "$package" "$tmp"
        unpack_kernel "$tmp"
        basename "$tmp"/*.deb >"$tmp/package"
    fi
    select_modules "$tmp"
    (cd "$tmp/out" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >"$tmp/sums") &&
        mv "$tmp/sums" "$tmp/out/SHA256SUMS"
    rm -rf "$dir"
    mv "$tmp/out" "$dir"
}

# newest_package PATTERN: the newest package of that name apt can offer
newest_package() {
    local found
    found=$(apt-cache search --names-only "$1" 2>/dev/null | cut -d' ' -f1 | sort -V | tail -n 1)
    if [ -z "$found" ]; then
        say "apt-get update"
        as_root timeout 600 apt-get update -qq >&2 || true
        found=$(apt-cache search --names-only "$1" | cut -d' ' -f1 | sort -V | tail -n 1)
    fi
    [ -n "$found" ] ||
        die "apt offers no package like $1" "check that bookworm and bookworm-security are among apt's sources"
    echo "$found"
}

# download PACKAGE DIR: its .deb into DIR
download() {
    local get=(timeout 1800 apt-get download -qq -o APT::Sandbox::User=root "$1")
    (cd "$2" && "${get[@]}" >&2) 2>/dev/null && return
    as_root timeout 600 apt-get update -qq >&2 || true                  # the lists may be older than the archive
    (cd "$2" && "${get[@]}" >&2) ||
        die "apt-get download $1 failed" "check the network, then run the same command again"
}

# fetch_split_kernel TMP: the newest 7.x of trixie-backports, which comes in several packages, to TMP/all as
# unpack_kernel leaves it
fetch_split_kernel() {
    local suite=trixie-backports package release deb
    package=$(suite_apt "$suite" search --names-only "$(kernel_pattern 7.x)" | cut -d' ' -f1 | sort -V | tail -n 1)
    [ -n "$package" ] || die "$suite has no package like $(kernel_pattern 7.x)" "see apt's lists in $cache/apt/$suite"
    release=${package#linux-binary-}
    say "fetching Debian's $package from $suite"
    suite_download "$suite" "$1" "linux-base-$release" "$package" "linux-modules-$release"
    mkdir -p "$1/all/boot" "$1/all/lib"
    for deb in "$1"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$1/all" --wildcards './usr/lib/modules*'; done
    mv "$1/all/usr/lib/modules" "$1/all/lib/modules"
    mv "$1/all/lib/modules/$release/vmlinuz" "$1/all/boot/vmlinuz-$release"
    mv "$1/all/lib/modules/$release/config" "$1/all/boot/config-$release"
    basename "$1/$package"_*.deb >"$1/package"
}

# unpack_kernel TMP: TMP/*.deb to TMP/all, without the drivers no virtual machine has
unpack_kernel() {
    local skip=() d
    for d in drivers/{gpu,media,iio,hid,usb,platform,hwmon,input,scsi,comedi,ata,mtd,infiniband} \
        drivers/net/{wireless,ethernet/[!i]*,phy,can} sound net/netfilter net/sched net/ipv6; do
        skip+=(--exclude="./lib/modules/*/kernel/$d")
    done
    mkdir "$1/all"
    dpkg-deb --fsys-tarfile "$1"/*.deb | tar -x -C "$1/all" "${skip[@]}" ./boot ./lib
}

# select_modules TMP: TMP/all to TMP/out, keeping of the modules those our lists name and what they depend on
select_modules() {
    local all=$1/all out=$1/out few=$1/few release list name
    release=$(ls "$all/lib/modules")
    mkdir -p "$out" "$few/lib/modules/$release"
    mv "$all/boot/vmlinuz-$release" "$out/vmlinuz"
    mv "$all/boot/config-$release" "$out/config"
    echo "$release" >"$out/release"
    mv "$1/package" "$out/package"
    depmod -b "$all" "$release" 2>/dev/null
    for list in guest lab; do
        grep -v '^#' "$root/tools/guest/modules.$list" | while read -r name; do
            modprobe -d "$all" -S "$release" --show-depends "$name" 2>/dev/null || true
        done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$1/$list"
        sed 's,.*/,,; s,\.xz$,,' "$1/$list" >"$out/$list.files"
    done
    # Once more for the few, in one folder: what the guest's modprobe reads is small then
    sort -u "$1/guest" "$1/lab" | xargs cp -t "$few/lib/modules/$release"
    find "$few" -name '*.xz' -exec xz -dq {} +
    cp "$all/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$few/lib/modules/$release/"
    depmod -b "$few" "$release" 2>/dev/null
    mkdir "$out/modules"
    mv "$few/lib/modules/$release"/*.ko "$out/modules/"
    cp "$few/lib/modules/$release"/modules.{dep,alias} "$out/modules/"
}

# modules_of NAME: prints a folder with lib/modules/VERSION: that Debian kernel's modules, but for drivers that no
# virtual machine has. In the lab the cache is read-only.
modules_of() {
    local dir out
    dir=$(debian_kernel "$1")
    out=$cache/modules/$(cat "$dir/release")
    [ -e "$out/lib" ] || with_lock "modules-$1" fetch_modules "$dir" "$out"
    echo "$out"
}

fetch_modules() {
    local dir=$1 out=$2 package tmp
    [ ! -e "$out/lib" ] || return 0      # another process was quicker
    need kmod
    in_cache modules
    scratch tmp "$cache/modules"
    package=$(cut -d_ -f1 "$dir/package")
    say "fetching the modules of Debian's $package"
    download "$package" "$tmp"
    unpack_kernel "$tmp"
    depmod -b "$tmp/all" "$(cat "$dir/release")" 2>/dev/null
    rm -rf "$tmp/all/boot" "$out"
    mv "$tmp/all" "$out"
}

# elf_of NAME: prints the uncompressed kernel of a Debian kernel
elf_of() {
    local dir
    dir=$(debian_kernel "$1")
    [ -e "$dir/vmlinux" ] || with_lock "kernel-$1" extract_elf "$dir/vmlinuz" "$dir/vmlinux"
    echo "$dir/vmlinux"
}

# extract_elf BZIMAGE ELF: the payload by the header's own fields (boot protocol 2.08), unpacked
extract_elf() {
    local image=$1 setup offset length magic unpack tail=4
    setup=$(number "$image" 0x1f1 1)
    offset=$(((setup + 1) * 512 + $(number "$image" 0x248 4)))
    length=$(number "$image" 0x24c 4)
    magic=$(od -An -v -tx1 -j "$offset" -N 4 "$image" | tr -d ' \n')
    case $magic in
        28b52ffd) unpack=(zstd -dcq) ;;
        02214c18) unpack=(lz4 -dcq) ;;
        fd377a58) unpack=(xz -dcq) ;;
        1f8b*) unpack=(gzip -dcq) tail=0 ;;                # has its length inside; the others carry it behind
        *)
            die "$image is packed in a way this tool does not know (starts $magic)" \
                "add it to extract_elf in tools/lib/kernels.sh"
            ;;
    esac
    need zstd lz4 xz-utils
    dd if="$image" bs=64K iflag=skip_bytes,count_bytes skip="$offset" count=$((length - tail)) status=none |
        "${unpack[@]}" >"$2.new"
    mv "$2.new" "$2"
}

number() { od -An -v -t "u$3" -j $(($2)) -N "$3" "$1" | tr -d ' '; }

# The lab machine's own kernel

lab_kernel_dir() {
    local sum
    sum=$({ grep '^CONFIG' "$root/tools/guest/lab.config"; cat "$root/tools/guest/inox_ud.c"; } | sha256sum)
    echo "$cache/lab-kernel-${sum:0:12}"
}

# build_lab_kernel: Debian's linux-source-6.12 with tools/guest/lab.config into the cache, and our module for it
build_lab_kernel() {
    local dir work source
    dir=$(lab_kernel_dir)
    [ ! -e "$dir/vmlinux" ] || return 0
    need gcc make flex bison bc libelf-dev libssl-dev xz-utils
    work=${INOX_KERNEL_BUILD:-$cache/build-lab-kernel}
    fetch_kernel_source "$work"
    source=$work/linux-source-6.12
    configure_lab_kernel "$source" "$work/lab"
    say "building the lab kernel: 2 to 10 minutes on 2 cores, log in $work/build.log"
    timeout 4h make -C "$source" O="$work/lab" -j"$(nproc)" vmlinux modules >"$work/build.log" 2>&1 &
    show_progress $! "$work/build.log"
    mkdir -p "$dir"
    mkdir -p "$work/modules"
    cp "$root/tools/guest/inox_ud.c" "$work/modules/"
    echo 'obj-m := inox_ud.o' >"$work/modules/Kbuild"
    build_modules "$work/lab" "$work/modules" "$dir" ||
        die "the module inox_ud did not build" "the lines above say why"
    strip -o "$dir/vmlinux.new" "$work/lab/vmlinux"
    mv "$dir/vmlinux.new" "$dir/vmlinux"
    rm -rf "$work"
    say "ready: $dir/vmlinux"
}

# fetch_kernel_source DIR: Debian's linux-source-6.12, unpacked there
fetch_kernel_source() {
    mkdir -p "$1"
    [ ! -d "$1/linux-source-6.12" ] || return 0
    say "fetching linux-source-6.12 (about 150 MB, 1.6 GB unpacked in $1)"
    download linux-source-6.12 "$1"
    dpkg-deb --fsys-tarfile "$1"/linux-source-6.12_*.deb | tar -xO ./usr/src/linux-source-6.12.tar.xz | tar -xJ -C "$1"
}

# guest_kernel: prints the directory of a kernel of docs/guest-kernel.md, tinyconfig and configs/guest.config, built on
# first use: bzImage, vmlinux, System.map, config; for tests trouble.ko, and debug/, the vmlinux with debugging
# information and the kernel's scripts for gdb.
guest_kernel() {
    local dir
    dir=$cache/guest-kernel-$(cat "$root"/configs/guest.config "$root"/tools/guest/{debug.config,trouble.c} |
        sha256sum | cut -c-12)
    [ -e "$dir/bzImage" ] || with_lock guest-kernel build_guest_kernel "$dir"
    echo "$dir"
}

build_guest_kernel() {
    local dir=$1 work source out fragments=("$root/configs/guest.config" "$root/tools/guest/debug.config")
    [ ! -e "$dir/bzImage" ] || return 0 # another process was quicker
    need gcc make flex bison bc libelf-dev libssl-dev xz-utils zstd
    work=${INOX_KERNEL_BUILD:-$cache/build-guest-kernel}
    fetch_kernel_source "$work"
    source=$work/linux-source-6.12 out=$work/guest
    configure_guest_kernel "$source" "$out" "${fragments[@]}"
    say "building the guest kernel: 3 to 15 minutes on 2 cores, log in $work/build.log"
    timeout 4h make -C "$source" O="$out" -j"$(nproc)" bzImage vmlinux modules scripts_gdb \
        >"$work/build.log" 2>&1 &
    show_progress $! "$work/build.log" 2200
    rm -rf "$dir"
    mkdir -p "$dir/debug/scripts" "$work/modules"
    cp "$root/tools/guest/trouble.c" "$work/modules/"
    echo 'obj-m := trouble.o' >"$work/modules/Kbuild"
    build_modules "$out" "$work/modules" "$dir" || die "the module trouble did not build" "the lines above say why"
    strip --strip-debug -o "$dir/vmlinux" "$out/vmlinux"
    cp "$out/vmlinux" "$dir/debug/"
    cp -L "$out/vmlinux-gdb.py" "$dir/debug/"
    cp -rL "$out/scripts/gdb" "$dir/debug/scripts/"
    cp "$out/System.map" "$dir/"
    cp "$out/.config" "$dir/config"
    cp "$out/arch/x86/boot/bzImage" "$dir/bzImage.new"
    mv "$dir/bzImage.new" "$dir/bzImage"
    rm -rf "$work"
}

# configure_guest_kernel SOURCE OUT FRAGMENT...: tinyconfig and these; every line of them must hold
configure_guest_kernel() {
    local source=$1 out=$2 line
    shift 2
    mkdir -p "$out"
    make -s -C "$source" O="$out" tinyconfig >&2
    (cd "$source" && scripts/kconfig/merge_config.sh -m -O "$out" "$out/.config" "$@") >"$out/merge.log"
    make -s -C "$source" O="$out" olddefconfig >&2
    while read -r line; do
        case $line in
            "# "*) ! grep -q "^$(cut -d' ' -f2 <<<"$line")=" "$out/.config" ;;
            *) grep -qxF "$line" "$out/.config" ;;
        esac || die "the kernel did not take $line" "adapt $* to this kernel version"
    done < <(grep -hE '^(CONFIG|# CONFIG.* is not set)' "$@")
}

# configure_lab_kernel SOURCE OUT: everything off but what the fragment asks for; every line of it must hold
configure_lab_kernel() {
    local fragment=$root/tools/guest/lab.config line
    mkdir -p "$2"
    make -s -C "$1" O="$2" KCONFIG_ALLCONFIG="$fragment" allnoconfig >&2
    while read -r line; do
        case $line in
            *=n) ! grep -q "^${line%=n}=" "$2/.config" ;;
            *) grep -qxF "$line" "$2/.config" ;;
        esac || die "the kernel did not take $line" "adapt tools/guest/lab.config to this kernel version"
    done < <(grep '^CONFIG' "$fragment")
}

# show_progress PID LOG [STEPS]: a line every half minute until the build ends; the build's status
show_progress() {
    local next=30
    while kill -0 "$1" 2>/dev/null; do
        sleep 1
        next=$((next - 1))
        if [ $next = 0 ]; then
            say "  $(grep -c '^  [A-Z]' "$2") of about ${3:-2100} steps"
            next=30
        fi
    done
    wait "$1" || { tail -n 5 "$2" >&2; die "the kernel build failed" "read $2"; }
}
