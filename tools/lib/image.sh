# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The Debian image: an ext4 file system without partitions, made in two steps that are kept apart in the cache:
#   image/base-KEY.tar.zst    Debian 12 from packages                        named by the list of packages
#   image/debian-KEY/         debian.ext4 and its SHA256SUMS                 named by the base and all that is added
# Needs common.sh, kernels.sh. No root needed: mmdebstrap makes itself a user namespace then, and fakeroot keeps the
# owners.

image_suite=bookworm
image_size=1536M
image_id=696e6f78-6465-6269-616e-000000000001       # the file system's UUID, and the seed of its directory hashes
image_time=1700000000                               # the age of its files

# debian_image: prints its path, making it on first use. In the lab the cache is read-only and was checked outside.
debian_image() {
    local base dir kernel kernels=()
    need mmdebstrap e2fsprogs fakeroot zstd kmod gcc libc6-dev
    # shellcheck disable=SC2154  # kernels.sh has it
    for kernel in $kernel_names; do kernels+=("$(debian_kernel "$kernel")"); done
    base=$cache/image/base-$(base_key).tar.zst
    dir=$cache/image/debian-$(image_key "$base" "${kernels[@]}")
    if [ -e "$dir/SHA256SUMS" ] && { [ -n "${INOX_LAB:-}" ] || sums_hold "$dir" debian.ext4; }; then
        touch -c "$dir" 2>/dev/null || true
    else
        with_lock image build_image "$base" "$dir" "${kernels[@]}"
    fi
    echo "$dir/debian.ext4"
}

base_key() {
    { grep -v '^#' "$root/tools/guest/image/packages"; base_options; } | sha256sum | head -c 12
}

image_key() {
    local base=$1 dir
    shift
    {
        echo "$base $image_size $image_id"
        cat "$root"/tools/guest/image/{setup.sh,masked} "$root/tools/guest/talk.c"
        declare -f pack_image
        for dir; do cat "$dir/SHA256SUMS"; done
    } | sha256sum | head -c 12
}

build_image() {
    local base=$1 dir=$2 tmp
    shift 2
    if [ -e "$dir/SHA256SUMS" ]; then
        ! sums_hold "$dir" debian.ext4 || return 0      # another process was quicker
        say "the cached image is damaged, making it again"
    fi
    in_cache image
    scratch tmp "$cache/image"
    [ -e "$base" ] || build_base "$base" "$tmp"
    say "packing the image"
    gcc -static -O2 -s -o "$tmp/talk" "$root/tools/guest/talk.c"
    mkdir "$tmp/out"
    with_owners pack_image "$base" "$tmp" "$@" >"$tmp/log" 2>&1 || {
        tail -n 5 "$tmp/log" >&2
        die "the image could not be packed" "the lines above say why"
    }
    (cd "$tmp/out" && sha256sum debian.ext4 >"$tmp/sums" && mv "$tmp/sums" SHA256SUMS)
    rm -rf "$dir"
    mv "$tmp/out" "$dir"
    # Of earlier ones, those nobody has asked for in a week
    find "$cache/image" -mindepth 1 -maxdepth 1 -name 'debian-*' -mtime +7 -exec rm -rf {} +
    find "$cache/image" -maxdepth 1 -name 'base-*' ! -path "$base" -mtime +7 -delete
}

# with_owners FUNCTION ARGS...: where chown works or seems to
with_owners() {
    local lib=$root/tools/lib
    # shellcheck disable=SC2016  # expanded by that bash
    if [ "$(id -u)" = 0 ]; then "$@"
    else fakeroot bash -c '. "$1"; . "$2"; "${@:3}"' bash "$lib/common.sh" "$lib/image.sh" "$@"; fi
}

# debian_sources: apt's own sources of this suite of Debian, as lines of a sources.list
debian_sources() {
    # shellcheck disable=SC2016  # the variables are apt's
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v suite="$image_suite" '$1 == "Debian" && index($2, suite) == 1 { print "deb", $3, $4, $5 }' | sort -u
}

# base_options: mmdebstrap's, one a line; they name the base together with the packages
base_options() {
    local d
    printf '%s\n' --variant=minbase --dpkgopt=force-unsafe-io --aptopt='APT::Install-Recommends "false"' "$image_suite"
    for d in share/doc share/man share/info share/locale share/lintian lib/gcc/x86_64-linux-gnu/12/lto1 \
        bin/x86_64-linux-gnu-lto-dump-12; do
        printf '%s\n' --dpkgopt="path-exclude=/usr/$d" --dpkgopt="path-exclude=/usr/$d/*"
    done
}

# build_base FILE TMP
build_base() {
    local file=$1 tmp=$2 packages options
    debian_sources >"$tmp/sources.list"
    if [ ! -s "$tmp/sources.list" ]; then
        say "apt-get update"
        as_root timeout 600 apt-get update -qq >&2 || true
        debian_sources >"$tmp/sources.list"
    fi
    [ -s "$tmp/sources.list" ] ||
        die "apt has no source of Debian's $image_suite" "add one to /etc/apt/sources.list and run apt-get update"
    packages=$(grep -v '^#' "$root/tools/guest/image/packages" | tr '\n' ',')
    mapfile -t options < <(base_options)
    say "fetching and installing Debian's $image_suite with mmdebstrap (about 90 MB, a few minutes)"
    (SOURCE_DATE_EPOCH=$image_time timeout 3600 mmdebstrap --include="${packages%,}" "${options[@]}" - \
        "$tmp/sources.list" 2>"$tmp/log" | zstd -q -3 -o "$tmp/base.tar.zst") &
    show_bootstrap $! "$tmp/log"
    mv "$tmp/base.tar.zst" "$file"
}

# show_bootstrap PID LOG: mmdebstrap's steps as they come; its status
show_bootstrap() {
    local line tail
    exec {tail}< <(tail -f --pid="$1" -s 0.5 "$2")
    while read -r line <&"$tail"; do
        case $line in
            "I: running"* | "I: download"* | "I: extract"* | "I: install"* | "I: creat"*) say "  ${line#I: }" ;;
        esac
    done
    exec {tail}<&-
    wait "$1" || {
        grep -v '^I:' "$2" | tail -n 5 >&2
        die "mmdebstrap failed" "check the network and apt-get update, then run the same command again"
    }
}

# pack_image BASE TMP KERNEL-DIR...: TMP/out/debian.ext4
pack_image() {
    local base=$1 tmp=$2 dir release
    shift 2
    mkdir "$tmp/tree"
    zstd -dcq "$base" | tar -x -C "$tmp/tree" --numeric-owner --exclude='./dev/*'
    "$root/tools/guest/image/setup.sh" "$tmp/tree"
    install -m 755 "$tmp/talk" "$tmp/tree/usr/local/bin/talk"
    for dir; do
        release=$(cat "$dir/release")
        install -D -m 644 -t "$tmp/tree/usr/lib/modules/$release" "$dir"/modules/*.ko
        depmod -b "$tmp/tree" "$release" 2>/dev/null    # it misses the kernel's list of what is built in
    done
    truncate -s "$image_size" "$tmp/out/debian.ext4"
    E2FSPROGS_FAKE_TIME=$image_time mke2fs -q -t ext4 -L inox-debian -U "$image_id" -m 0 \
        -E "hash_seed=$image_id,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0" \
        -d "$tmp/tree" "$tmp/out/debian.ext4"
}
