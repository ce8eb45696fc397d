#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a kernel, caused in Debian's kernels by a module of ours: `inox test` names the cause, and
ends with the code for it. All of it in one start of the lab machine.

    verdict.py INOX     each trouble in one of the kernels; INOX_VERDICT_MATRIX=full: each in all of them
"""
import dataclasses, os, pathlib, shutil
import lab
from lab import check, expect, expect_match

KERNELS = ["6.1", "6.1-cloud", "6.12"]


@dataclasses.dataclass
class Trouble:
    name: str
    code: int       # of inox test
    text: str       # a line of the verdict matches
    kernel: str     # that is tried if not all are; empty: none
    command: str = "insmod /trouble.ko what={}"
    options: tuple = ()
    console: str = ""   # a line of the console that is kept matches


TROUBLES = [
    Trouble("warn", 122, r"line \d+ of the console, warning: .*WARNING: CPU: 0", "6.12"),
    Trouble("oops", 122, r"line \d+ of the console, oops: .*NULL pointer dereference", "6.1"),
    Trouble("bug", 122, r"line \d+ of the console, bug: .*kernel BUG at", "6.1-cloud"),
    Trouble("panic", 120, r"the guest's kernel panicked: trouble: as asked", "6.1-cloud"),
    Trouble("softlockup", 121, r"of the console, (soft lockup|RCU stall): ", "6.1"),
    Trouble("stall", 121, r"of the console, (soft lockup|RCU stall): ", "6.12"),
    Trouble("deadlock", 121, r"of the console, (soft lockup|RCU stall): ", "", options=("--timeout", "60s")),
    Trouble("hardlockup", 121, r"vCPU 0 took no interrupt for 20 s", "6.12", console=r"NMI: Not continuing"),
    Trouble("hungtask", 121, r"of the console, hung task: .*insmod", "6.1-cloud", options=("--timeout", "45s"),
            command="echo 5 >/proc/sys/kernel/hung_task_timeout_secs; insmod /trouble.ko what={}"),
    Trouble("status", 7, r"the command ended with 7", "6.12", command="exit 7"),
    Trouble("nothing", 0, r": ok after", "6.12", command="echo all is well"),
]


def outside(inox):
    work = lab.work_directory("verdict")
    tree = work / "tree"
    for folder in ("bin", "proc", "sys", "dev", "tmp"):
        (tree / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for name in ("sh", "echo", "insmod", "sleep"):
        (tree / "bin" / name).symlink_to("busybox")
    kernels = {}
    for name in KERNELS:
        shutil.copy(lab.dev("trouble", name), tree / "trouble.ko")
        lab.output("mkfs.ext4", "-q", "-d", str(tree), str(work / f"{name}.disk"), "16M")
        kernels[name] = (lab.dev("kernel", name), lab.dev("modules", name))
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", "5400", "--out", str(work), inox=inox, work=str(work),
              kernels=kernels)


def inside(inox, work, kernels):
    full = os.environ.get("INOX_VERDICT_MATRIX") == "full"
    for name, (kernel, modules) in kernels.items():
        start = [inox, "test", "--kernel", kernel]
        root = ["--modules", modules, "--root", f"{work}/{name}.disk", "--memory", "512M", "--timeout", "400s"]
        for trouble in TROUBLES:
            if full or trouble.kernel == name:
                check(f"{name}: {trouble.name}", Cause(trouble, [*start, *root]).is_named)
    check("6.12", a_hang_in_the_boot_is_named, [inox, "test", "--kernel", kernels["6.12"][0]])


class Cause:
    def __init__(self, trouble, start):
        self.trouble, self.start = trouble, start

    def is_named(self):
        trouble = self.trouble
        command = trouble.command.format(trouble.name)
        code, said, console = run_test(self.start, *trouble.options, "--", "sh", "-c", command)
        expect(code == trouble.code, f"code {code}, not {trouble.code}: {said[-3000:]}")
        expect_match(trouble.text, said)
        expect_match(trouble.console, console)


def run_test(start, *options):
    """Its code, its words, and the console that it keeps."""
    kept = pathlib.Path("/tmp/kept")
    shutil.rmtree(kept, ignore_errors=True)
    done = lab.run(*start, "--artifacts", str(kept), *options, seconds=600)
    logs = list(kept.glob("*/console.log"))
    return done.returncode, done.stdout, lab.read(logs[0]) if logs else ""


def a_hang_in_the_boot_is_named(start):
    code, said, console = run_test(start, "--memory", "256M", "--append", "root=/dev/nope rootwait", "--quiet-for",
                                   "20s", "--timeout", "400s")
    expect(code == 121, f"code {code}: {said[-3000:]}")
    expect_match(r"the guest's console said nothing for 20000 ms", said)
    expect_match(r"vCPU 0: RIP 0xffffffff[0-9a-f]+, in the kernel", said)
    expect_match(r"Kernel panic - not syncing: NMI: Not continuing", console)


lab.main(outside, inside)
