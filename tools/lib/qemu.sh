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
    local suite dir loader version=$qemu
    if [ "$qemu" = host ]; then
        need qemu-system-x86
        qemu_command=(qemu-system-x86_64)
        version=$(timeout 2 qemu-system-x86_64 --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+' | head -n 1 || true)
    else
        suite=$(qemu_suite "$qemu")
        dir=$cache/qemu/$qemu
        suite_tree "$suite" "$dir" usr/bin/qemu-system-x86_64 qemu-system-x86 "150 MB"
        by_loader "$dir"
        qemu_command=(env "QEMU_MODULE_DIR=$dir/usr/lib/x86_64-linux-gnu/qemu" "${loader[@]}"
            "$dir/usr/bin/qemu-system-x86_64" -L "$dir/usr/share/qemu" -L "$dir/usr/share/seabios"
            -L "$dir/usr/lib/ipxe/qemu")
    fi
    qemu_version=0
    [ -z "$version" ] || qemu_version=$((${version%.*} * 100 + ${version#*.}))
}
