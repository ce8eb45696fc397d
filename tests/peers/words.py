#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a kernel developer is told: each trouble of tests/lab/trouble.py in one kernel, by `inox test` and by vng, with
and without its -v. Prints a table of Markdown: the exit code, and whether the cause is named. In one start of the lab
machine.

    words.py INOX TREE    TREE, INOX_TEST_GUEST_KERNEL as in times.py
INOX_PEER_TROUBLES: a regular expression for names (default: all).
"""
import os, pathlib, re, subprocess, sys, time
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))
import lab
from lab import check, expect, expect_same
from trouble import TROUBLES, Cause
from virtme import CPUS, MEMORY, Virtme, packages

PATIENCE = 45   # seconds for what vng has to say of a guest that hangs, beside its start
# How the kernel itself says it, and how long it takes where the trouble ends by itself
SAID = {
    "warn": r"WARNING: CPU: 0", "oops": r"NULL pointer dereference", "bug": r"kernel BUG at",
    "panic": r"Kernel panic .*trouble: as asked", "sysrq c": r"Kernel panic .*sysrq triggered crash",
    "oops=panic": r"Kernel panic .*Fatal exception", "killed init": r"Kernel panic .*Attempted to kill init",
    "missing root": r"Kernel panic .*Unable to mount root", "softlockup": r"soft lockup|rcu.*stall",
    "stall": r"soft lockup|rcu.*stall", "deadlock": r"soft lockup|rcu.*stall", "hungtask": r"blocked for more than",
    "hang in the boot": r"Waiting for root device", "hardlockup": r"hard LOCKUP",
}
ENDS = {"softlockup": 45, "stall": 45}


def outside(inox, tree):
    work = lab.work_directory("words")
    (work / "bin").mkdir()
    lab.write(work / "end.c", "int main(void) { return 0; }\n")
    lab.output("gcc", "-static", "-o", work / "bin/sh", work / "end.c")
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", "7200", inox=inox, tree=tree, work=str(work),
              kernel=os.environ["INOX_TEST_GUEST_KERNEL"], initrd=lab.dev("initramfs"))


def inside(inox, tree, work, kernel, initrd):
    vng = Virtme(tree, f"{kernel}/bzImage", rust=True)
    start = [inox, "test", "--kernel", f"{kernel}/bzImage", "--cpus", CPUS]
    root = ["--root", "/", "--memory", MEMORY, "--timeout", "400s"]
    begin = time.monotonic()
    expect_same(vng.run("true").returncode, 0)
    patience = PATIENCE + round(2 * (time.monotonic() - begin))
    rows = []
    for trouble in TROUBLES:
        if re.search(os.environ.get("INOX_PEER_TROUBLES", ""), trouble.name):
            module = f"{kernel}/trouble.ko"
            both = Both(trouble, Cause(trouble, start, root, module, initrd), vng, module, work, patience)
            check(trouble.name, both.inox_names_it)
            check(trouble.name, both.vng_ends_or_is_ended)
            check(trouble.name, both.vng_ends_or_is_ended, "-v")
            if wanted := {"status": "7", "nothing": "0"}.get(trouble.name):
                check(trouble.name, both.have_the_code, wanted)
            rows.append(both.row)
    print(f"{packages(tree)}; the kernel of docs/guest-kernel.md, {CPUS} CPU, {MEMORY}")
    for row in [["trouble", "`inox test`", "`vng`", "`vng -v`"], ["---"] * 4, *rows]:
        print(f"| {' | '.join(row)} |")


class Both:
    """One trouble in both; `patience`: seconds for vng."""

    def __init__(self, trouble, cause, vng, module, work, patience):
        self.trouble, self.cause, self.vng, self.module, self.work = trouble, cause, vng, module, work
        self.patience = patience + ENDS.get(trouble.name, 0)
        self.row = [trouble.name]

    def inox_names_it(self):
        self.row.append("failed")
        self.cause.is_named()
        pattern = self.trouble.text.partition("(?s:")[0]
        line = next(line for line in self.cause.said.splitlines() if re.search(pattern, line))
        self.row[-1] = f"{self.trouble.code}: {shown(re.sub('^inox test: .*?: ', '', line))}"

    def vng_ends_or_is_ended(self, *options):
        words = [*options]
        if self.trouble.name == "killed init":  # its root has nothing but an init that ends at once
            words += ["--root", self.work]
        elif self.trouble.append:
            words += ["--append", self.trouble.append]
        line = self.trouble.command.format(module=self.module, name=self.trouble.name) or "true"
        said, code = ended(self.vng, line, words, self.patience)
        lines = [line for line in said.splitlines() if line.strip()]
        named = [line for line in lines if re.search(SAID.get(self.trouble.name, "^$"), line)]
        told = f"no word of it in {len(lines)} lines" if lines else "nothing"
        if named:
            told = f"{shown(named[0])}, one of {len(lines)} lines"
        self.row.append(f"{'no end' if code is None else code}: {told}")

    def have_the_code(self, wanted):
        for cell in self.row[1:]:
            expect(cell.startswith(f"{wanted}:"), f"not {wanted}: {cell}")


def shown(line):
    """Without the time of a line of the console."""
    text = re.sub(r"\[ *[0-9.]+\] ", "", line).strip()
    return f"`{text[:90]}`"


def ended(vng, line, words, limit):
    """What it said, and its code, None if it had to be ended."""
    process = subprocess.Popen(vng.command(line, words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", env=vng.environment,
                               start_new_session=True)
    try:
        return process.communicate(timeout=limit)[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return process.communicate(timeout=60)[0], None


lab.main(outside, inside)
