#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels boot to user space under inox: the CPUs and the memory they see, the exit code, power-off and
reboot, no word of complaint about our ACPI, and a virtio console on a terminal. And they end in every way a kernel can,
with the status that this deserves. All of it in one start of the lab machine.

    boot.py INOX     a lean set with every value in it; INOX_BOOT_MATRIX=full: all of them; ends: only the ends
"""
import dataclasses, os, re, signal, typing
import lab
from lab import Guest, check, checks, expect, expect_match, expect_same, read, said, shell_words

# Kernel, CPUs, MiB, end; KERNEL/elf is the uncompressed ELF file, entered by its PVH note
LEAN = """6.1-cloud 1 256 exit
6.1-cloud 4 6144 poweroff
6.1 4 256 reboot
6.12/elf 1 6144 exit
6.12 4 256 reboot"""
FULL = """6.1-cloud 1 256 exit
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
6.12/elf 4 6144 exit"""
ROWS = [row.split() for row in {"full": FULL, "ends": ""}.get(os.environ.get("INOX_BOOT_MATRIX"), LEAN).splitlines()]
QUIET = "console=ttyS0 quiet panic=-1"
UUID = "5f3b6c1e-0f53-4c3a-9e9d-2f1d3c4b5a69"
IMAGE = "as it was" * 233017                # 2 MiB and a few sectors
TYPED = "typed while nobody listens yet: 0123456789 0123456789 0123456789"


def outside(inox):
    kernels = {name: lab.dev("vmlinux", name[:-4]) if name.endswith("/elf") else lab.dev("kernel", name)
               for name in sorted({"6.1-cloud", *(row[0] for row in ROWS)})}
    # One emulated CPU: with two, QEMU now and then runs code that the other has just patched, and a kernel dies of it
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", "2400", inox=inox, kernels=kernels,
              initrd=lab.dev("initramfs"))


def inside(inox, kernels, initrd):
    for kernel, cpus, mib, end in ROWS:
        boot = Boot(int(cpus), int(mib), end, [inox, "run", "--kernel", kernels[kernel], "--initrd", initrd])
        checks(f"{kernel} {cpus}cpu {mib}MiB", boot.ends_with_its_status, boot.boots_to_user_space,
               boot.reads_what_was_typed_before_it_was_up, boot.sees_its_cpus, boot.sees_the_threads_of_a_core,
               boot.sees_its_memory, boot.sees_its_hardware, boot.reads_back_from_a_temporary_disk,
               boot.has_no_complaint_in_its_log)
    command = [inox, "run", "--kernel", kernels["6.1-cloud"]]
    for end in ENDS:
        check(f"end by {end.name}", ends_with_its_status_and_says_so, end, command, ["--initrd", initrd])
    check("console", works_on_a_terminal, [*command, "--initrd", initrd])


class Boot:
    """One boot that ends by itself; what the guest says of itself comes by a console of its own."""

    def __init__(self, cpus, mib, end, command):
        self.cpus, self.mib, self.end, self.command = cpus, mib, end, command
        self.serial = self.report = ""

    def ends_with_its_status(self):
        lab.remove("/tmp/serial.log", "/tmp/console", "/tmp/disk")
        lab.write("/tmp/disk", IMAGE)
        line = f"""
            for name in sys_vendor product_name product_serial product_uuid bios_vendor; do
                echo "$name $(cat /sys/class/dmi/id/$name)"
            done
            echo "dmi $(dmesg | grep -o 'DMI: .*')"
            dd if=/dev/urandom of=/tmp/data bs=3000 count=100 2>/dev/null
            dd if=/tmp/data of=/dev/vda bs=300000 seek=1 conv=fsync 2>/dev/null
            echo 3 >/proc/sys/vm/drop_caches
            dd if=/dev/vda bs=300000 skip=1 count=1 2>/dev/null | cmp - /tmp/data && echo "disk reads back"
            read -r -t 5 typed
            echo "read $typed" >/dev/ttyS0
            echo "cpus $(nproc)"
            echo "siblings $(cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list)"
            awk '/^MemTotal/ {{ print "mib", int($2 / 1024) }}' /proc/meminfo
            dmesg -r | grep -E '^<[0-3]>|^<4>.*(ACPI|acpi|pnp:|pnp [0-9]|Firmware|WARNING: CPU|BUG:)' |
                sed 's/^/complaint /'
            {"exit 42" if self.end == "exit" else f"{self.end} -f"}"""
        guest = Guest(*self.command, "--cpus", str(self.cpus), *(["--smt"] if self.cpus > 1 else []),
                      "--memory", f"{self.mib}M", "--timeout", "300s", "--console", "/tmp/console",
                      "--smbios", f"serial=ds=nocloud;h=vm,uuid={UUID}", "--disk", "/tmp/disk,temporary",
                      "--serial-log", "/tmp/serial.log",
                      "--cmdline", f"{QUIET} loglevel=1 {shell_words(line, 'hvc0')}")
        guest.type_last(TYPED)
        status = guest.finish(330)
        self.serial, self.report = read("/tmp/serial.log"), read("/tmp/console")
        expect_same(status, 42 if self.end == "exit" else 0)

    def boots_to_user_space(self):
        expect_match("^inox: user space up", self.serial)

    def reads_what_was_typed_before_it_was_up(self):
        expect_match(f"^read {TYPED}$", self.serial)

    def sees_its_cpus(self):
        expect_same(said(self.report, "cpus"), str(self.cpus))

    def sees_the_threads_of_a_core(self):
        expect_same(said(self.report, "siblings"), "0" if self.cpus == 1 else "0-1")

    def sees_its_memory(self):
        """What the kernel keeps for itself is some 60 MiB and a 64th of the rest"""
        seen = int(said(self.report, "mib") or 0)
        expect(self.mib * 31 // 32 - 110 <= seen <= self.mib, f"{seen} MiB")

    def sees_its_hardware(self):
        expect_same([said(self.report, name) for name in ("sys_vendor", "product_name", "product_serial",
                                                          "product_uuid", "bios_vendor")],
                    ["inox", "virtual machine", "ds=nocloud;h=vm", UUID, "inox"])
        expect_match("^dmi DMI: inox virtual machine", self.report)

    def reads_back_from_a_temporary_disk(self):
        expect_same(said(self.report, "disk"), "reads back")
        expect_same(read("/tmp/disk"), IMAGE)

    def has_no_complaint_in_its_log(self):
        expect_same(said(self.report, "complaint"), "")


def press_the_power_button(guest):
    guest.wait_for("listening", 300)
    guest.process.send_signal(signal.SIGTERM)


def exit_the_second_time(guest):
    guest.wait_for("user space up", 300)
    guest.wait_for("user space up", 300)
    guest.type("second")


@dataclasses.dataclass
class End:
    """A way to end: the status, a text in the VMM's last words, and how the guest comes there."""

    name: str
    status: int
    words: str
    line: str = ""                              # what the guest's shell runs
    options: tuple = ()
    cmdline: str = QUIET
    initrd: bool = True
    act: typing.Callable = lambda guest: None   # what is done to it meanwhile


CRASH = "echo c >/proc/sysrq-trigger"
PANICKED = "the guest's kernel panicked:"
REBOOTED = "inox: the guest rebooted after"
NO_DRIVER = "rmmod pvpanic-mmio pvpanic-pci"
ENDS = [
    End("panic", 135, f"{PANICKED} sysrq triggered crash", CRASH),
    End("killed-init", 135, f"{PANICKED} Attempted to kill init! exitcode=0x00000000",
        cmdline=f"{QUIET} rdinit=/bin/busybox"),
    End("missing-root", 135, f"{PANICKED} VFS: Unable to mount root fs", initrd=False,
        cmdline=f"{QUIET} root=/dev/none"),
    End("hang-after-panic", 135, f"{PANICKED} Attempted to kill init!", options=("--timeout", "60s"),
        cmdline="console=ttyS0 quiet rdinit=/bin/busybox"),
    End("on-panic-end", 135, f"{PANICKED} sysrq triggered crash", CRASH, options=("--on-panic", "end"),
        cmdline="console=ttyS0 quiet"),
    End("no-driver", 135, f"{PANICKED} sysrq triggered crash", f"{NO_DRIVER}; {CRASH}"),
    End("text-off", 0, REBOOTED, f"{NO_DRIVER}; {CRASH}", options=("--panic-text", "off")),
    End("emergency-reboot", 0, REBOOTED, f"{NO_DRIVER}; echo b >/proc/sysrq-trigger"),
    End("reboot", 0, REBOOTED, "reboot -f"),
    End("reboot-fail", 144, "the guest rebooted [guest_rebooted]", "reboot -f", options=("--on-reboot", "fail")),
    End("restart", 7, "inox: the guest exited after", 'read -r -t 5 turn; [ "$turn" = second ] && exit 7; reboot -f',
        options=("--on-reboot", "restart"), act=exit_the_second_time),
    End("poweroff", 0, "inox: the guest powered off after", "poweroff -f"),
    End("button", 0, "inox: the guest powered off after", """
        modprobe evdev; name=$(grep -l "Power Button" /sys/class/input/event*/device/name | cut -d/ -f5)
        echo listening; head -c 24 "/dev/input/$name" >/dev/null; poweroff -f""",
        options=("--grace", "60s"), act=press_the_power_button),
    End("deaf", 143, "did not power off within the 1000 ms of --grace", "echo listening; sleep 60",
        options=("--grace", "1s"), act=press_the_power_button),
]


def ends_with_its_status_and_says_so(end, command, initrd):
    words = f"{end.cmdline} {shell_words(end.line)}" if end.line else end.cmdline
    guest = Guest(*command, *(initrd if end.initrd else []), "--memory", "256M", "--timeout", "300s",
                  *end.options, "--cmdline", words)
    end.act(guest)
    expect_same(guest.finish(330), end.status)
    expect(end.words in guest.errors(), f"the VMM did not say '{end.words}'")
    expect(re.match("inox: .* after ", lab.tail(guest.errors(), 1)[0]), "the VMM's last line is another")


def works_on_a_terminal(command):
    """What is typed arrives, what the guest prints is seen, a resize is told to the guest."""
    line = """exec </dev/hvc0 >/dev/hvc0 2>&1
        for i in $(seq 100); do [ "$(stty size)" = "33 101" ] && break; sleep 0.1; done
        echo "size $(stty size)"
        read line && echo "guest read $line"
        for i in $(seq 100); do [ "$(stty size)" = "40 120" ] && break; sleep 0.1; done
        echo "size $(stty size)"
        exit 7"""
    guest = Guest(*command, "--memory", "256M", "--console", "terminal", "--timeout", "400s",
                  "--cmdline", f"{QUIET} {shell_words(line)}", size=(33, 101))
    guest.wait_for("size 33 101", 300)
    guest.type("typed words", "\r")
    guest.wait_for("guest read typed words", 100)
    guest.resize(40, 120)
    guest.wait_for("size 40 120", 100)
    expect_same(guest.finish(200), 7)


lab.main(outside, inside)
