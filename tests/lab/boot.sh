#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's kernels boot to user space under inox: the CPUs and the memory they see, the exit code, power-off and reboot,
# no word of complaint about our ACPI, and a virtio console on a terminal. And they end in every way a kernel can, with
# the status that this deserves. All of it in one start of the lab machine.
#   boot.sh INOX            a lean set with every value in it; INOX_BOOT_MATRIX=full: all of them; ends: only the ends
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
. "$here/lib.sh"
. "$here/expect.sh"

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

# NAME STATUS WORDS-ON-STDERR; what each does is in end_line and end_arguments
ends="panic 135 the guest's kernel panicked: sysrq triggered crash
killed-init 135 the guest's kernel panicked: Attempted to kill init! exitcode=0x00000000
missing-root 135 the guest's kernel panicked: VFS: Unable to mount root fs
hang-after-panic 135 the guest's kernel panicked: Attempted to kill init!
on-panic-end 135 the guest's kernel panicked: sysrq triggered crash
no-driver 135 the guest's kernel panicked: sysrq triggered crash
text-off 0 inox: the guest rebooted after
emergency-reboot 0 inox: the guest rebooted after
reboot 0 inox: the guest rebooted after
reboot-fail 144 the guest rebooted [guest_rebooted]
restart 7 inox: the guest exited after
poweroff 0 inox: the guest powered off after
button 0 inox: the guest powered off after
deaf 143 did not power off within the 1000 ms of --grace"

rows() {
    case ${INOX_BOOT_MATRIX:-} in
        full) echo "$full" ;;
        ends) ;;
        *) echo "$lean" ;;
    esac
}

outside() {
    local inox
    inox=$(readlink -f "$1")
    for kernel in 6.1-cloud $(rows | cut -d' ' -f1 | sort -u); do
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
echo "siblings $(cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list)"
awk '/^MemTotal/ { print "mib", int($2 / 1024) }' /proc/meminfo
dmesg -r | grep -E '^<[0-3]>|^<4>.*(ACPI|acpi|pnp:|pnp [0-9]|Firmware|WARNING: CPU|BUG:)' | sed 's/^/complaint /'
END
    case $1 in
        exit) echo 'exit 42' ;;
        *) echo "$1 -f" ;;
    esac
}

inside() {
    local inox=$1 failed=0 kernel cpus mib end initrd name status words
    initrd=$("$root/tools/dev" initramfs)
    while read -r kernel cpus mib end; do
        check_boot || failed=1
    done < <(rows)
    while read -r name status words; do
        check_end || failed=1
    done <<<"$ends"
    "$here/console.py" "$("$root/tools/dev" kernel 6.1-cloud)" "$initrd" "$inox" || failed=1
    return $failed
}

# What the guest of an end runs
end_line() {
    case $1 in
        panic | on-panic-end | hang-after-panic) echo 'echo c >/proc/sysrq-trigger' ;;
        no-driver | text-off) echo 'rmmod pvpanic-mmio pvpanic-pci; echo c >/proc/sysrq-trigger' ;;
        emergency-reboot) echo 'rmmod pvpanic-mmio pvpanic-pci; echo b >/proc/sysrq-trigger' ;;
        reboot | reboot-fail) echo 'reboot -f' ;;
        restart) echo 'read -r -t 2 turn; [ "$turn" = second ] && exit 7; reboot -f' ;;
        poweroff) echo 'poweroff -f' ;;
        button)
            echo 'modprobe evdev; name=$(grep -l "Power Button" /sys/class/input/event*/device/name | cut -d/ -f5)'
            echo 'echo listening; head -c 24 "/dev/input/$name" >/dev/null; poweroff -f'
            ;;
        deaf) echo 'echo listening; sleep 60' ;;
    esac
}

# check_end: one boot that ends by $name, with $status, and with $words among the last lines of standard error
check_end() {
    local about="end by $name" failed=0 got=0 line=() options=() cmdline="console=ttyS0 quiet panic=-1" kernel=6.1-cloud
    options=(--initrd "$initrd" --memory 256M --timeout 120s)
    [ -z "$(end_line "$name")" ] || line=("inox.sh=$(end_line "$name" | base64 -w0)")
    case $name in
        killed-init) cmdline+=" rdinit=/bin/busybox" ;;
        missing-root) options=(--memory 256M --timeout 120s) cmdline+=" root=/dev/none" ;;
        hang-after-panic) cmdline="console=ttyS0 quiet rdinit=/bin/busybox" options+=(--timeout 30s) line=() ;;
        on-panic-end) cmdline="console=ttyS0 quiet" options+=(--on-panic end) ;;
        text-off) options+=(--panic-text off) ;;
        reboot-fail) options+=(--on-reboot fail) ;;
        restart) options+=(--on-reboot restart) ;;
        button) options+=(--grace 60s) ;;
        deaf) options+=(--grace 1s) ;;
    esac
    start end "$inox" run --kernel "$(image $kernel)" "${options[@]}" --cmdline "$cmdline ${line[*]}"
    case $name in
        button | deaf) await end listening 120 && kill -TERM "${guest_pid[end]}" ;;
        restart) await end 'user space up' 120 && await end 'user space up' 120 && type_line end second ;;
    esac || failed=1
    finish end 180 || failed=1
    got=$ended
    ok "status $status, and says so" ended_as_wanted
    [ $failed = 0 ] || { echo "--- status $got; the last lines of $about:"; tail -n 15 "$expect_dir/end.log" "$expect_dir/end.err"; }
    rm -f "$expect_dir"/end.{log,err}
    return $failed
}

ended_as_wanted() { [ "$got" = "$status" ] && grep -qF "$words" "$expect_dir/end.err" && tail -n 1 "$expect_dir/end.err" | grep -q '^inox: .* after '; }

# check_boot: one boot of $kernel with $cpus and $mib that ends by $end; one line for each check
check_boot() {
    local typed_ahead='typed while nobody listens yet: 0123456789 0123456789 0123456789'
    local smt=() siblings=0 about="$kernel ${cpus}cpu ${mib}MiB" log=/tmp/serial.log status=0 wanted=0 seconds=$SECONDS failed=0
    [ "$end" != exit ] || wanted=42
    [ "$cpus" = 1 ] || smt=(--smt) siblings=0-1
    "$inox" run --kernel "$(image "$kernel")" --initrd "$initrd" --cpus "$cpus" "${smt[@]}" --memory "${mib}M" \
        --cmdline "console=ttyS0 quiet loglevel=1 panic=-1 inox.sh=$(guest_line "$end" | base64 -w0)" \
        --timeout 300s --serial-log "$log" <<<"$typed_ahead" >/tmp/stdout 2>/tmp/stderr || status=$?
    seconds=$((SECONDS - seconds))
    [ -e "$log" ] || cp /tmp/stdout "$log"
    tr -d '\r' <"$log" >/tmp/serial
    ok "boots to user space" grep -q '^inox: user space up' /tmp/serial
    ok "reads what was typed before it was up" grep -qx "read $typed_ahead" /tmp/serial
    ok "sees its CPUs" grep -qx "cpus $cpus" /tmp/serial
    ok "sees the threads of a core" grep -qx "siblings $siblings" /tmp/serial
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
