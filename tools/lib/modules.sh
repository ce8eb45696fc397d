# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What Debian leaves out of the kernels that the lab machine runs, built as modules from Debian's own source against
# Debian's headers: iommufd and VFIO's character devices, the sample mtty (a mediated device), and our own modules of
# tools/guest. Needs common.sh, kernels.sh and suites.sh.

# debian_lab_kernel NAME: prints the directory of a Debian kernel for the lab machine: that of debian_kernel with these
# modules, made on first use. Where they cannot be built it says why, and prints Debian's own: source and headers of a
# kernel are gone from the archive once a newer one is there.
debian_lab_kernel() {
    local plain release dir
    plain=$(debian_kernel "$1")
    release=$(cat "$plain/release")
    dir=$(lab_kernel_with_modules "$plain")
    # What failed is not tried again for ten hours
    if [ -z "${INOX_LAB:-}" ] && ! all_sums_hold "$dir" && [ -z "$(find "$dir.failed" -mmin -600 2>/dev/null)" ]; then
        with_lock "lab-$release" make_lab_kernel "$1" "$plain" "$dir" || touch "$dir.failed"
    fi
    if all_sums_hold "$dir"; then echo "$dir"
    else
        say "this lab has no iommufd, and ENQCMD does not reach user space: its modules could not be built"
        echo "$plain"
    fi
}

# lab_kernel_with_modules PLAIN: where that kernel with its modules is or will be; named by what goes into it
lab_kernel_with_modules() {
    local sum
    sum=$({
        cat "$1/SHA256SUMS" "$root"/tools/guest/inox_{ud,svm}.c
        declare -f lay_over fetch_headers fetch_sources newer_compiler lay_out_modules lay_out_iommufd build_modules
    } | sha256sum)
    echo "$cache/kernels/lab-$(cat "$1/release")-${sum:0:12}"
}

all_sums_hold() { (cd "$1" && sha256sum --status -c SHA256SUMS) 2>/dev/null; }

# make_lab_kernel NAME PLAIN DIR
make_lab_kernel() {
    local plain=$2 dir=$3 release version tmp tree make_words=()
    ! all_sums_hold "$dir" || return 0 # another process was quicker
    release=$(cat "$plain/release")
    version=$(package_version "$plain")
    say "building what Debian's $release lacks (about 170 MB of source, one minute)"
    need gcc-12 make kmod xz-utils
    scratch tmp "$cache/kernels"
    fetch_sources "$1" "$release" "$version" "$tmp" || return
    tree=$tmp/usr/src/linux-headers-$release
    [ "$1" != 7.x ] || newer_compiler "$tmp" || return
    lay_out_modules "$1" "$tmp/source" "$tmp/modules" && mkdir "$tmp/built" &&
        build_modules "$tree" "$tmp/modules" "$tmp/built" "${make_words[@]}" &&
        lay_over "$plain" "$tmp" || return
    rm -rf "$dir"
    find "$cache/kernels" -maxdepth 1 -name "lab-$release-*" -mtime +7 -exec rm -rf {} +    # of earlier versions
    mv "$tmp/out" "$dir"
}

# lay_over PLAIN TMP: TMP/out, as PLAIN with the modules in TMP/built
lay_over() {
    local plain=$1 out=$2/out release few
    release=$(cat "$plain/release")
    few=$2/few/lib/modules/$release     # where depmod looks
    mkdir -p "$out/modules" "$few" &&
        cp "$plain"/{release,package} "$out/" &&
        cp "$plain"/modules/*.ko "$few/" && cp "$2"/built/*.ko "$few/" &&
        { cat "$plain/lab.files" && (cd "$2/built" && printf '%s\n' *.ko); } | sort -u >"$out/lab.files" &&
        depmod -b "$2/few" "$release" 2>/dev/null &&
        cp "$few"/*.ko "$few"/modules.{dep,alias} "$out/modules/" &&
        (cd "$out" && find . -type f -printf '%P\n' | sort | xargs sha256sum >"$2/sums") &&
        mv "$2/sums" "$out/SHA256SUMS"
}

# trouble_module NAME: prints the path of tools/guest/trouble.c as a module of that Debian kernel, built on first use
trouble_module() {
    local plain sum dir
    plain=$(debian_kernel "$1")
    sum=$({
        cat "$plain/SHA256SUMS" "$root/tools/guest/trouble.c"
        declare -f fetch_headers build_modules
    } | sha256sum)
    dir=$cache/kernels/trouble-$(cat "$plain/release")-${sum:0:12}
    all_sums_hold "$dir" || with_lock "trouble-$1" make_trouble_module "$1" "$plain" "$dir" ||
        die "the module for tests of $1 could not be built" "its headers may be gone from the archive: remove $plain"
    echo "$dir/trouble.ko"
}

# make_trouble_module NAME PLAIN DIR
make_trouble_module() {
    local release version tmp
    ! all_sums_hold "$3" || return 0 # another process was quicker
    release=$(cat "$2/release")
    version=$(package_version "$2")
    say "building a module that makes trouble in $release"
    need gcc-12 make kmod
    scratch tmp "$cache/kernels"
    fetch_headers "$1" "$release" "$version" "$tmp" || return
    mkdir "$tmp/modules" "$tmp/out"
    cp "$root/tools/guest/trouble.c" "$tmp/modules/"
    echo "obj-m := trouble.o" >"$tmp/modules/Kbuild"
    build_modules "$tmp/usr/src/linux-headers-$release" "$tmp/modules" "$tmp/out" || return
    (cd "$tmp/out" && sha256sum trouble.ko >SHA256SUMS)
    rm -rf "$3"
    mv "$tmp/out" "$3"
}

# package_version PLAIN: of a kernel's package, as apt writes it
package_version() { sed 's/^[^_]*_//; s/_[^_]*$//; s/%3a/:/' "$1/package"; }

# fetch_headers NAME RELEASE VERSION TMP [PACKAGE...]: headers, the tools that build modules, and more packages. All is
# unpacked, never installed: installing brings a kernel image along.
fetch_headers() {
    local name=$1 release=$2 version=$3 tmp=$4 flavour package kbuild packages
    shift 4
    flavour=${release%-amd64}
    kbuild=linux-kbuild-${flavour%-cloud}
    [[ $release != 6.1.* ]] || kbuild=linux-kbuild-6.1 # one for all of the series
    packages=("linux-headers-$release=$version" "linux-headers-${flavour%-cloud}-common=$version" "$kbuild=$version"
        "${@/%/=$version}")
    if [ "$name" = 7.x ]; then (suite_download trixie-backports "$tmp" "${packages[@]}") || return
    else
        for package in "${packages[@]}"; do (download "$package" "$tmp") || return; done
    fi
    for package in "$tmp"/linux-{headers,kbuild}*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x -C "$tmp"; done
    sed -i "s,/usr/src/,$tmp&," "$tmp/usr/src/linux-headers-$release/Makefile"
}

# fetch_sources NAME RELEASE VERSION TMP: headers, and in TMP/source the parts of the source that become modules
fetch_sources() {
    local release=$2 tmp=$4 series
    series=$(cut -d. -f1,2 <<<"$release")
    fetch_headers "$@" "linux-source-$series" || return
    mkdir "$tmp/source"
    dpkg-deb --fsys-tarfile "$tmp"/linux-source-*.deb | tar -xO "./usr/src/linux-source-$series.tar.xz" |
        tar -xJ -C "$tmp/source" --strip-components=1 --wildcards '*/drivers/vfio' '*/drivers/iommu' \
            '*/lib/interval_tree.c' '*/samples/vfio-mdev/mtty.c'
}

# newer_compiler TMP: adds to make_words. 7.x was built by gcc 14 with a newer C library, and so were the tools that
# build modules. Both run by the loader of that suite; gcc's own parts do through -wrapper.
newer_compiler() {
    local tmp=$1 dir=$cache/gcc/14 loader file
    (suite_tree trixie "$dir" usr/bin/x86_64-linux-gnu-gcc-14 gcc-14 "60 MB") || return
    by_loader "$dir"
    {
        echo '#!/bin/sh'
        printf 'exec'
        printf ' %q' "${loader[@]}" "$dir/usr/bin/x86_64-linux-gnu-gcc-14" -B"$dir/usr/bin/" -wrapper \
            "$(IFS=,; echo "${loader[*]}")"
        echo ' "$@"'
    } >"$tmp/gcc"
    chmod +x "$tmp/gcc"
    make_words+=("CC=$tmp/gcc")
    for file in "$tmp"/usr/lib/linux-kbuild-*/{scripts/mod/modpost.real-lsb-64,tools/objtool/objtool.real-x86}; do
        mv "$file" "$file.elf"
        { echo '#!/bin/sh'; printf 'exec'; printf ' %q' "${loader[@]}" "$file.elf"; echo ' "$@"'; } >"$file"
        chmod +x "$file"
    done
}

# lay_out_modules NAME SOURCE DIR: the modules' sources with a Kbuild file; adds to make_words. What Debian's
# configuration says no to is defined for the preprocessor and for make; what it leaves out of the kernel itself (dirty
# tracking) stays out.
lay_out_modules() {
    local source=$2 dir=$3 own=(inox_ud) name
    [ "$1" != 7.x ] || own+=(inox_svm)
    mkdir "$dir"
    cp -a "$source/drivers/vfio" "$source/samples/vfio-mdev/mtty.c" "$dir/"
    sed -i '/^obj-/{/CONFIG_VFIO_PCI/!d}' "$dir/vfio/pci/Makefile"      # no vendor's own
    for name in "${own[@]}"; do cp "$root/tools/guest/$name.c" "$dir/"; done
    echo "obj-m := vfio/ mtty.o ${own[*]/%/.o}" >"$dir/Kbuild"
    if [ -d "$source/drivers/iommu/iommufd" ]; then lay_out_iommufd "$source" "$dir"; fi
}

# lay_out_iommufd SOURCE DIR: 6.2 and newer; character devices of VFIO: 6.6
lay_out_iommufd() {
    local name flags=-DCONFIG_INTERVAL_TREE_SPAN_ITER=1
    cp -a "$1/drivers/iommu/iommufd" "$2/"
    cp "$1"/drivers/iommu/iommu-{priv,pages}.h "$2/" 2>/dev/null || true    # not in every version
    sed '/EXPORT_SYMBOL/d' "$1/lib/interval_tree.c" >"$2/iommufd/span.c"
    echo 'iommufd-y += span.o' >>"$2/iommufd/Makefile"
    grep -q MODULE_LICENSE "$2/iommufd/iova_bitmap.c" ||
        printf '#include <linux/module.h>\nMODULE_LICENSE("GPL");\n' >>"$2/iommufd/iova_bitmap.c"
    echo 'obj-m += iommufd/' >>"$2/Kbuild"
    for name in IOMMUFD IOMMUFD_DRIVER IOMMUFD_DRIVER_CORE VFIO_DEVICE_CDEV; do
        make_words+=("CONFIG_$name=m")
        flags+=" -DCONFIG_$name=1"
    done
    make_words+=(CONFIG_VFIO_DEVICE_CDEV=y "KCFLAGS=$flags")
}

# build_modules BUILD-TREE SOURCE OUT [MAKE-WORD...]: SOURCE's modules, all in OUT; without BTF, which would want pahole
build_modules() {
    local tree=$1 source=$2 out=$3 file
    shift 3
    timeout 1h make -s -C "$tree" M="$source" -j"$(nproc)" CONFIG_DEBUG_INFO_BTF_MODULES= "$@" modules \
        >"$source/log" 2>&1 || { tail -n 5 "$source/log" >&2; return 1; }
    find "$source" -name '*.ko' | while read -r file; do
        strip --strip-debug -o "$out/${file##*/}.new" "$file"
        mv "$out/${file##*/}.new" "$out/${file##*/}"
    done
}
