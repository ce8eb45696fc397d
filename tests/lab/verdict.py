#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a kernel, caused in Debian's kernels by a module of ours: `inox test` names the cause, and
ends with the code for it. All of it in one start of the lab machine.

    verdict.py INOX     each trouble in one of the kernels; INOX_VERDICT_MATRIX=full: each in all of them
INOX_TEST_GUEST_KERNEL: a folder that `tools/dev guest-kernel` prints: all of them in that kernel, instead of Debian's.
"""
import os, shutil
import lab
from lab import check
from trouble import TROUBLES, Cause

KERNELS = ["6.1", "6.1-cloud", "6.12"]
TINY = os.environ.get("INOX_TEST_GUEST_KERNEL")


def outside(inox):
    work = lab.work_directory("verdict")
    tree = work / "tree"
    for folder in ("bin", "proc", "sys", "dev", "tmp"):
        (tree / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for name in ("sh", "echo", "insmod", "sleep"):
        (tree / "bin" / name).symlink_to("busybox")
    kernels = {}
    for name in ["tiny"] if TINY else KERNELS:
        shutil.copy(f"{TINY}/trouble.ko" if TINY else lab.dev("trouble", name), tree / "trouble.ko")
        lab.output("mkfs.ext4", "-q", "-d", str(tree), str(work / f"{name}.disk"), "16M")
        kernels[name] = (f"{TINY}/bzImage", None) if TINY else (lab.dev("kernel", name), lab.dev("modules", name))
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", "5400", "--out", str(work), inox=inox, work=str(work),
              kernels=kernels, initrd=lab.dev("initramfs"))


def inside(inox, work, kernels, initrd):
    full = TINY or os.environ.get("INOX_VERDICT_MATRIX") == "full"
    for name, (kernel, modules) in kernels.items():
        start = [inox, "test", "--kernel", kernel]
        root = ["--root", f"{work}/{name}.disk", "--memory", "512M", "--timeout", "400s"]
        if modules:
            root += ["--modules", modules]
        for trouble in TROUBLES:
            if full or trouble.kernel == name:
                check(f"{name}: {trouble.name}", Cause(trouble, start, root, "/trouble.ko", initrd).is_named)


lab.main(outside, inside)
