#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Linux guest allocates PASIDs, binds page tables that it made in user space, and submits work to the virtual
accelerator by plain stores: tools/guest/pasid.c, under Debian kernels, with and without a virtio-iommu. And an assigned
device, whose IOMMU in the lab nests no page tables, works without PASIDs and says why.

    pasid.py INOX
"""
import pathlib, re
import lab
from lab import Guest, check, expect_match, expect_same

KERNELS = ["6.1-cloud", "6.12"]
SOCKET = "/tmp/api"


def outside(inox):
    work = lab.work_directory("pasid")
    kernels = {kernel: lab.dev("kernel", kernel) for kernel in KERNELS}
    program = lab.compiled(work / "pasid", "tools/guest/pasid.c", "-std=gnu2x", "-s", "-Wall", "-Wextra", "-Werror")
    idle = lab.compiled(work / "idle", "tests/kvm/guests/idle.S", *lab.BARE)
    # A second archive behind the first: the kernel unpacks both
    lab.write(work / "list", f"file /bin/pasid 755 {program}\n")
    with open(work / "list") as names:
        lab.output("python3", lab.ROOT / "tools/guest/mkcpio.py", work / "more", stdin=names)
    archives = [pathlib.Path(lab.dev("initramfs")), work / "more"]
    (work / "initrd").write_bytes(b"".join(archive.read_bytes() for archive in archives))
    lab.enter("--nested", "--smp", "1", "--memory", "1536", "--timeout", "1000", "--device", "edu", inox=inox,
              kernels=kernels, idle=idle, initrd=str(work / "initrd"))


def inside(inox, kernels, idle, initrd):
    edu = lab.bind(lab.pci_devices("1234:11e8")[0])
    plain = [inox, "run", "--kernel", idle, "--memory", "32M", "--api-sock", SOCKET, "--pasid"]
    for backend, reason, *options in [("container", "container interface"), ("iommufd", "no PASID width"),
                                      ("iommufd", "virtual IOMMU", "--iommu")]:
        if backend in lab.backends():
            check(" ".join([f"an assigned device by {backend}", *options]), works_without_PASIDs_and_says_why, reason,
                  [*plain, "--vfio", f"{edu},backend={backend}", *options])
    for kernel, *options in [*([kernel] for kernel in kernels), ["6.12", "--iommu"]]:
        check(" ".join(["Linux", kernel, *options]), two_address_spaces_share_one_accelerator,
              [inox, "run", "--kernel", kernels[kernel], "--initrd", initrd, "--memory", "256M", "--dsa",
               "--timeout", "400s", *options, "--cmdline",
               f"console=ttyS0 quiet loglevel=1 panic=-1 {lab.shell_words('/bin/pasid')}"])


def works_without_PASIDs_and_says_why(reason, command):
    """Which is told once, and shown"""
    lab.remove(SOCKET)
    guest = Guest(*command)
    guest.type_last()
    guest.wait_for("i", 200)
    shown = lab.output(command[0], "ctl", "-s", SOCKET, "pasids")
    guest.stop()
    expect_same(len(re.findall("no PASIDs for", guest.errors())), 1)
    expect_match(f"no PASIDs for .*{reason}.*works without", guest.errors())
    expect_match(f"no  *no PASIDs for .*{reason}", shown)


def two_address_spaces_share_one_accelerator(command):
    guest = Guest(*command)
    guest.type_last()
    status = guest.finish(420)
    expect_same(status, 0)
    expect_match("^pasid: all is well", guest.console)


lab.main(outside, inside)
