#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's kernels boot to user space under inox: the CPUs and the memory they see, the exit code, power-off and reboot,
# no word of complaint about our ACPI, and a virtio console on a terminal. All of it in one start of the lab machine.
#   boot.sh INOX            a lean set with every value in it; INOX_BOOT_MATRIX=full: all of them
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
. "$here/lib.sh"

# KERNEL CPUS MIB END; KERNEL/elf is the uncompressed ELF file, entered by its PVH note
lean="6.1-cloud 1 256 exit
6.1-cloud 4 6144 poweroff
6.1 4 256 reboot
6.12/elf 1 6144 exit
6.12 4 256 reboot"
full="6.1-cloud 1 256 exit
6.1-cloud 1 6144 reboot
6.1-cloud 4 256 poweroff
6.1-cloud 4 6144 exit
6.1 1 256 poweroff
6.1 1 6144 exit
6.1 4 256 reboot
6.1 4 6144 exit
6.12 1 256 exit
6.12 1 6144 poweroff
6.12 4 256 reboot
6.12 4 6144 exit
6.1-cloud/elf 1 256 exit
6.12/elf 4 6144 exit"

rows() { [ "${INOX_BOOT_MATRIX:-}" = full ] && echo "$full" || echo "$lean"; }

outside() {
    local inox
    inox=$(readlink -f "$1")
    for kernel in $(rows | cut -d' ' -f1 | sort -u); do
        image "$kernel" >/dev/null || skip "Debian's $kernel kernel cannot be had here"
    done
    "$root/tools/dev" initramfs >/dev/null || skip "the initramfs cannot be built here"
    # One emulated CPU: with two, QEMU now and then runs code that the other has just patched, and a kernel dies of it
    lab_test --smp 1 --memory 3072 --timeout 2400 -- "$here/boot.sh" --inside "$inox"
    exit "$status"
}

# image KERNEL: the path
image() {
    case $1 in
        */elf) "$root/tools/dev" vmlinux "${1%/elf}" ;;
        *) "$root/tools/dev" kernel "$1" ;;
    esac
}

# What the guest runs: a report, then its end
guest_line() {
    cat <<'END'
read -r -t 5 typed
echo "read $typed"
echo "cpus $(nproc)"
awk '/^MemTotal/ { print "mib", int($2 / 1024) }' /proc/meminfo
dmesg -r | grep -E '^<[0-3]>|^<4>.*(ACPI|acpi|pnp:|pnp [0-9]|Firmware|WARNING: CPU|BUG:)' | sed 's/^/complaint /'
END
    case $1 in
        exit) echo 'exit 42' ;;
        *) echo "$1 -f" ;;
    esac
}

inside() {
    local inox=$1 failed=0 kernel cpus mib end initrd
    initrd=$("$root/tools/dev" initramfs)
    while read -r kernel cpus mib end; do
        check_boot || failed=1
    done < <(rows)
    "$here/console.py" "$("$root/tools/dev" kernel 6.1-cloud)" "$initrd" "$inox" || failed=1
    return $failed
}

# check_boot: one boot of $kernel with $cpus and $mib that ends by $end; one line for each check
check_boot() {
    local typed_ahead='typed while nobody listens yet: 0123456789 0123456789 0123456789'
    local about="$kernel ${cpus}cpu ${mib}MiB" log=/tmp/serial.log status=0 wanted=0 seconds=$SECONDS failed=0
    [ "$end" != exit ] || wanted=42
    "$inox" run --kernel "$(image "$kernel")" --initrd "$initrd" --cpus "$cpus" --memory "${mib}M" \
        --cmdline "console=ttyS0 quiet panic=-1 inox.sh=$(guest_line "$end" | base64 -w0)" \
        --timeout 300s --serial-log "$log" <<<"$typed_ahead" >/tmp/stdout 2>/tmp/stderr || status=$?
    seconds=$((SECONDS - seconds))
    [ -e "$log" ] || cp /tmp/stdout "$log"
    tr -d '\r' <"$log" >/tmp/serial
    ok "boots to user space" grep -q '^inox: user space up' /tmp/serial
    ok "reads what was typed before it was up" grep -qx "read $typed_ahead" /tmp/serial
    ok "sees its CPUs" grep -qx "cpus $cpus" /tmp/serial
    ok "sees its memory" memory_fits
    ok "has no complaint in its log" no_complaint
    ok "ends by $end with status $wanted after $seconds s" [ "$status" = "$wanted" ]
    rm -f "$log"
    [ $failed = 0 ] || { echo "--- status $status; the last lines of $about:"; tail -n 15 /tmp/serial /tmp/stderr; }
    return $failed
}

# What the kernel keeps for itself is some 60 MiB and a 64th of the rest
memory_fits() {
    local seen
    seen=$(awk '$1 == "mib" { print $2 }' /tmp/serial)
    [ -n "$seen" ] && [ "$seen" -le "$mib" ] && [ "$seen" -ge $((mib * 31 / 32 - 110)) ]
}

no_complaint() {
    ! grep '^complaint' /tmp/serial
}

case ${1:?which inox} in
    --inside) inside "$2" ;;
    *) outside "$1" ;;
esac
