#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debuggers know a guest's kernel: crash and drgn find the panic's backtrace in a dump of --dump-on-panic, crash those
of a running guest's CPUs in one of `inox ctl dump`, and the kernel's own scripts for GDB read its log and its processes
through --gdb. The guests run in one start of the lab machine, the readers of dumps outside it.

    debuggers.py INOX DRGN CRASH     INOX_TEST_GUEST_KERNEL as in tests/lab/verdict.py
"""
import os, pathlib, re, subprocess, sys, time
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))
import lab
from lab import Guest, check, checks, expect, expect_match, expect_same

KERNEL = os.environ["INOX_TEST_GUEST_KERNEL"]
GDB, API = "/tmp/debuggers.gdb", "/tmp/debuggers.api"
DRGN = r"""
thread = prog.crashed_thread()
print("crashed", thread.object.comm.string_().decode(), thread.object.pid.value_())
print(thread.stack_trace())
print(prog["init_uts_ns"].name.release.string_().decode())
"""


def outside(inox, drgn, crash):
    work = lab.work_directory("debuggers")
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", "3600", "--out", str(work), inox=inox, work=str(work))
    dumps = Dumps(work, drgn, crash)
    checks("", dumps.crash_shows_where_the_panic_was, dumps.drgn_shows_where_the_panic_was,
           dumps.crash_shows_where_the_cpus_of_a_running_guest_are)


class Dumps:
    def __init__(self, work, drgn, crash):
        self.work, self.drgn, self.crash_path = work, drgn, crash

    def crash(self, dump, *commands):
        text = "".join(f"{command}\n" for command in (*commands, "quit"))
        done = subprocess.run([self.crash_path, "-s", f"{KERNEL}/debug/vmlinux", str(self.work / dump)], input=text,
                              capture_output=True, text=True, timeout=600)
        return done.stdout

    def crash_shows_where_the_panic_was(self):
        said = self.crash("panic", "sys", "bt", "ps")
        expect_match(r"PANIC: .*trouble: as asked", said)
        expect_match(r'COMMAND: "insmod"', said)
        expect_match(r"#\d+ \[\w+\] panic at .*\n.*\[trouble\]\n.* do_one_initcall at", said)
        expect_match(r"^> .* insmod", said)

    def drgn_shows_where_the_panic_was(self):
        lab.write(self.work / "ask.py", DRGN)
        said = lab.output(self.drgn, "-q", "-c", str(self.work / "panic"), "-s", f"{KERNEL}/debug/vmlinux",
                          str(self.work / "ask.py"), seconds=600)
        expect_match(r"^crashed insmod \d+$", said)
        expect_match(r"^#\d+ +.*panic", said)
        expect_match(r"^#\d+ +do_one_initcall", said)
        expect_match(r"^6\.12", said)

    def crash_shows_where_the_cpus_of_a_running_guest_are(self):
        said = self.crash("running", "bt -a")
        busy, idle = (re.search(rf'COMMAND: "{name}(.*?)(?=^PID|\Z)', said, re.M | re.S) for name in ("dd", "swapper"))
        expect(busy and idle, f"both CPUs should have a task: {said}")
        expect_match(r"#\d+ \[\w+\] vfs_read at .*\n.*ksys_read at", busy[1])
        expect_match(r"#\d+ \[\w+\] do_idle at .*\n.*cpu_startup_entry at", idle[1])


def inside(inox, work):
    check("", a_panic_leaves_a_dump, inox, work)
    check("", a_running_guest_leaves_a_dump, inox, work)
    check("", a_running_guest_is_read_by_the_kernels_own_scripts, inox)


def a_panic_leaves_a_dump(inox, work):
    done = lab.run(inox, "test", "--kernel", f"{KERNEL}/bzImage", "--memory", "256M", "--dump-on-panic",
                   f"{work}/panic", "--", "insmod", f"{KERNEL}/trouble.ko", "what=panic", seconds=300)
    expect_same(done.returncode, 120)
    expect(os.path.getsize(f"{work}/panic") > 32 << 20, "the dump is small")


def a_running_guest_leaves_a_dump(inox, work):
    guest = Guest(inox, "run", "--kernel", f"{KERNEL}/bzImage", "--cpus", "2", "--memory", "256M", "--root", "/",
                  "--api-sock", API, "--allow", work, "--timeout", "10m", "--", "sh", "-c",
                  "echo ready; exec dd if=/dev/zero of=/dev/null bs=16M")
    guest.wait_for("ready", 300)
    time.sleep(2)   # dd has begun
    lab.output(inox, "ctl", "-s", API, "dump", f"{work}/running")
    guest.stop()


def a_running_guest_is_read_by_the_kernels_own_scripts(inox):
    guest = Guest(inox, "run", "--kernel", f"{KERNEL}/bzImage", "--memory", "256M", "--root", "/", "--gdb",
                  f"unix:{GDB},wait=off", "--timeout", "30m", "--", "sh", "-c",
                  "echo ready; exec sleep 2000")
    guest.wait_for("ready", 300)
    words = []
    for word in (f"source {KERNEL}/debug/vmlinux-gdb.py", f"target remote {GDB}", "lx-version", "lx-dmesg", "lx-ps",
                 "lx-lsmod", "detach"):
        words += ["-ex", word]
    said = lab.output("gdb", "-batch", "-nx", *words, f"{KERNEL}/debug/vmlinux", seconds=1200)
    expect_match(r"^Linux version 6\.12", said)
    expect_match(r"^\[ +0\.000000\] Linux version 6\.12", said)
    expect_match(r"^0x[0-9a-f]+ +1 +init", said)
    expect_match(r"^0x[0-9a-f]+ +\d+ +sleep", said)
    guest.stop()


lab.main(outside, inside)
