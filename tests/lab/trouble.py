# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a kernel under test, and what `inox test` has to say of it. The module tools/guest/trouble.c
causes most of it."""
import dataclasses, pathlib, shutil
import lab
from lab import expect, expect_match

PANICKED = r"the guest's kernel panicked: "


@dataclasses.dataclass
class Trouble:
    name: str
    code: int       # of inox test
    text: str       # a line of the verdict matches
    kernel: str     # that is tried if not all are; empty: none
    command: str = "insmod {module} what={name}"    # empty: the guest has no root, and none is wanted
    options: tuple = ()
    console: str = ""   # a line of the console that is kept matches
    append: str = ""    # to the kernel's command line


TROUBLES = [
    Trouble("warn", 122, r"line \d+ of the console, warning: .*WARNING: CPU: 0", "6.12"),
    Trouble("oops", 122, r"line \d+ of the console, oops: .*NULL pointer dereference", "6.1"),
    Trouble("bug", 122, r"line \d+ of the console, bug: .*kernel BUG at", "6.1-cloud"),
    Trouble("panic", 120, PANICKED + "trouble: as asked", "6.1-cloud"),
    Trouble("sysrq c", 120, PANICKED + "sysrq triggered crash", "", command="echo c >/proc/sysrq-trigger"),
    Trouble("oops=panic", 120, PANICKED + "Fatal exception", "6.12", command="insmod {module} what=oops",
            append="oops=panic"),
    Trouble("killed init", 120, PANICKED + r"Attempted to kill init! exitcode=0x00000000", "", command="",
            append="rdinit=/bin/busybox"),
    Trouble("missing root", 120, PANICKED + "VFS: Unable to mount root fs", "", command="", append="root=/dev/nope"),
    Trouble("softlockup", 121, r"of the console, (soft lockup|RCU stall): ", "6.1"),
    Trouble("stall", 121, r"of the console, (soft lockup|RCU stall): ", "6.12"),
    Trouble("deadlock", 121, r"of the console, (soft lockup|RCU stall): ", "", options=("--timeout", "60s")),
    Trouble("hardlockup", 121, r"vCPU 0 took no interrupt for 20 s", "6.12", console=r"NMI: Not continuing"),
    Trouble("hungtask", 121, r"of the console, hung task: .*insmod", "6.1-cloud", options=("--timeout", "45s"),
            command="echo 5 >/proc/sys/kernel/hung_task_timeout_secs; insmod {module} what=hungtask"),
    Trouble("hang in the boot", 121, r"the guest's console said nothing for 20000 ms(?s:.*)"
            r"vCPU 0: RIP 0xffffffff[0-9a-f]+( \S+)?, in the kernel", "6.12", command="",
            append="root=/dev/nope rootwait", options=("--quiet-for", "20s"),
            console=r"Kernel panic - not syncing: NMI: Not continuing"),
    Trouble("status", 7, r"the command ended with 7", "6.12", command="exit 7"),
    Trouble("nothing", 0, r": ok after", "6.12", command="echo all is well"),
]


class Cause:
    """A trouble in one kernel: `start` is inox test with the kernel, `root` has the options for what has a command."""

    def __init__(self, trouble, start, root, module, initrd=None):
        self.trouble = trouble
        command = trouble.command.format(module=module, name=trouble.name)
        words = [*trouble.options, *(["--append", trouble.append] if trouble.append else [])]
        if command:
            self.words = [*start, *root, *words, "--", "sh", "-c", command]
        else:
            initrds = ["--initrd", initrd] if "rdinit=" in trouble.append else []
            self.words = [*start, *initrds, "--memory", "256M", *words]

    def is_named(self):
        code, self.said, console = run_test(self.words)
        expect(code == self.trouble.code, f"code {code}, not {self.trouble.code}: {self.said[-3000:]}")
        expect_match(self.trouble.text, self.said)
        expect_match(self.trouble.console, console)


def run_test(words):
    """Its code, its words, and the console that it keeps."""
    kept = pathlib.Path("/tmp/kept")
    shutil.rmtree(kept, ignore_errors=True)
    place = words.index("--") if "--" in words else len(words)
    done = lab.run(*words[:place], "--artifacts", str(kept), *words[place:], seconds=600)
    logs = list(kept.glob("*/console.log"))
    return done.returncode, done.stdout, lab.read(logs[0]) if logs else ""
