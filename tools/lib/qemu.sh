# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Which QEMU is the lab machine: the host's own, or that of a newer Debian suite, unpacked into the cache with the
# libraries it needs and run by its own loader. Needs common.sh and suites.sh.

qemu_names="10.0 11.1"

# qemu_suite NAME: where it comes from
qemu_suite() {
    case $1 in
        10.0) echo trixie ;;
        11.1) echo trixie-backports ;;
        *) die "the lab has no QEMU '$1'" "--qemu host, or one of: $qemu_names" ;;
    esac
}

# choose_qemu: sets qemu_command, and qemu_version as a number: 702 for 7.2, 0 when it does not say
choose_qemu() {
    local dir lib version=$qemu
    if [ "$qemu" = host ]; then
        need qemu-system-x86
        qemu_command=(qemu-system-x86_64)
        version=$(timeout 2 qemu-system-x86_64 --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+' | head -n 1 || true)
    else
        qemu_suite "$qemu" >/dev/null
        dir=$cache/qemu/$qemu
        if ! sums_hold "$dir" usr/bin/qemu-system-x86_64; then
            with_lock "qemu-$qemu" fetch_qemu "$qemu" "$dir"
        fi
        lib=/usr/lib/x86_64-linux-gnu
        qemu_command=(env "QEMU_MODULE_DIR=$dir$lib/qemu" "$dir/usr/lib64/ld-linux-x86-64.so.2"
            --library-path "$dir$lib" "$dir/usr/bin/qemu-system-x86_64" -L "$dir/usr/share/qemu"
            -L "$dir/usr/share/seabios" -L "$dir/usr/lib/ipxe/qemu")
    fi
    qemu_version=0
    [ -z "$version" ] || qemu_version=$((${version%.*} * 100 + ${version#*.}))
}

# fetch_qemu NAME DIR: about 150 MB
fetch_qemu() {
    local name=$1 dir=$2 suite tmp deb package
    ! sums_hold "$dir" usr/bin/qemu-system-x86_64 || return 0 # another was quicker
    suite=$(qemu_suite "$name")
    say "fetching QEMU $name from Debian's $suite (about 150 MB; nothing is installed)"
    mkdir -p "$cache/qemu"
    scratch tmp "$cache/qemu"
    # What it needs, as if nothing were installed
    suite_apt "$suite" -y -qq --no-install-recommends --print-uris install qemu-system-x86 |
        sed -n "s/^'[^']*' \([^_ ]*\)_.*/\1/p" | grep -vE '^(base-|dpkg|apt|perl|python|debconf)' >"$tmp/packages"
    mkdir "$tmp"/{debs,tree}
    # shellcheck disable=SC2046  # a list of names
    suite_download "$suite" "$tmp/debs" $(cat "$tmp/packages")
    package=$(basename "$tmp"/debs/qemu-system-x86_*.deb)
    for deb in "$tmp"/debs/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tmp/tree" --no-same-owner \
            --exclude='./usr/share/doc*' --exclude='./usr/share/man*' --exclude='./usr/share/locale*'
    done
    echo "$package" >"$tmp/tree/package"
    (cd "$tmp/tree" && find . -type f -printf '%P\n' | sort | xargs -d '\n' sha256sum >"$tmp/sums") &&
        mv "$tmp/sums" "$tmp/tree/SHA256SUMS"
    rm -rf "$dir"
    mv "$tmp/tree" "$dir"
}
