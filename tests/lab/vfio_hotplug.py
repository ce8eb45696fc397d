#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An assigned NVMe disk comes and goes in a running Debian guest: ten times by the control API, by both kernel
interfaces in turn, by force in the middle of the guest's I/O, and because the host wants it back. The guest reads it
right each time, and nothing of it stays with inox or the kernel. One start of the lab.

    vfio_hotplug.py INOX
INOX_HOTPLUG_TURNS: how often (default 10).
"""
import os, pathlib, re, subprocess, time
import lab
from lab import Guest, check, checks, expect, expect_same, read

TURNS = int(os.environ.get("INOX_HOTPLUG_TURNS", "10"))
SOCKET = "/tmp/hotplug.api"
DRIVER = pathlib.Path("/sys/bus/pci/drivers/vfio-pci")


def outside(inox):
    lab.enter("--nested", "--smp", "1", "--memory", "1536", "--timeout", "1500", "--device", "nvme", inox=inox,
              kernel=lab.dev("kernel", "6.12"), initrd=lab.dev("initramfs"))


def inside(inox, kernel, initrd):
    life = Life(inox, kernel, initrd)
    if not check("", life.boots_to_a_shell):
        return
    for turn in range(1, TURNS + 1):
        if not check("", life.the_disk_comes_and_goes, turn):
            return
        life.held.append(life.holdings())
    checks("", life.holds_nothing_of_what_is_gone, life.is_asked_back_while_busy, life.is_torn_out_while_busy,
           life.the_host_asks_it_back, life.can_be_given_once_more, life.holds_no_more_in_the_end,
           life.complains_of_its_lost_disk_only, life.ends_with_the_shells_status)


class Life:
    def __init__(self, inox, kernel, initrd):
        self.disk = lab.pci_devices("1b36:0010")[0]
        block, = pathlib.Path("/sys/bus/pci/devices", self.disk, "nvme").glob("*/nvme*n1")
        self.sum = lab.sha256(f"/dev/{block.name}")
        lab.bind(self.disk)
        expect((DRIVER / self.disk).exists(), f"vfio-pci does not take {self.disk}")
        self.held = []
        self.inox = inox
        self.guest = Guest(inox, "run", "--kernel", kernel, "--initrd", initrd, "--memory", "256M", "--cmdline",
                           "console=ttyS0 quiet loglevel=1 panic=-1", "--api-sock", SOCKET, "--timeout", "1400s",
                           "--allow", "/dev/vfio", "--allow", "/dev/iommu")
        self.api = lab.Api(SOCKET)

    def boots_to_a_shell(self):
        self.guest.enter_shell()
        self.guest.says("quiet", "echo quiet")
        self.guest.ask("modprobe nvme")

    def add(self, backend):
        self.api.ask("PUT", "/inox/devices/disk", {"vfio": {"host": self.disk, "backend": backend}})
        self.reads_right()

    def reads_right(self):
        self.guest.ask("until [ -b /dev/nvme0n1 ]; do usleep 20000; done")
        self.guest.says(self.sum, "sha256sum </dev/nvme0n1 | cut -d' ' -f1")

    def remove(self, query=""):
        self.api.ask("DELETE", f"/inox/devices/disk{query}")
        self.api.gone("disk")

    def the_disk_comes_and_goes(self, turn):
        self.add(lab.backends()[turn % len(lab.backends())])
        self.remove()
        self.guest.ask("[ ! -e /dev/nvme0n1 ]")

    def page_table(self):
        """Of the disk; Debian's kernel does not show it"""
        return pathlib.Path("/sys/kernel/debug/iommu/intel", self.disk, "domain_translation_struct")

    def holdings(self):
        """And pages that anybody's DMA holds, and entries of the disk's page table"""
        time.sleep(0.5)     # what is gone for the API is freed on the loop a moment later
        lab.write("/proc/sys/vm/stat_refresh", "1")
        pins = dict(re.findall(r"^nr_foll_pin_(\w+) (\d+)$", read("/proc/vmstat"), re.M))
        return [*self.guest.holdings(256), int(pins.get("acquired", 0)) - int(pins.get("released", 0)),
                len(re.findall("^0x", read(self.page_table()), re.M))]

    def expect_no_leak(self, after):
        before = self.held[1]
        lab.note(f"descriptors, mappings, KiB of inox's own, pages pinned, DMA translations: {before}, then {after}")
        lab.expect_no_leak(before, after)
        expect(after[3] == before[3] and after[4] <= before[4], "pages are pinned, or mapped for DMA")

    def holds_nothing_of_what_is_gone(self):
        self.expect_no_leak(self.held[-1])

    def is_asked_back_while_busy(self):
        self.goes_while_busy("")

    def is_torn_out_while_busy(self):
        self.goes_while_busy("?force=true")

    def goes_while_busy(self, query):
        """While the guest reads without end"""
        self.add(lab.backends()[0])
        self.guest.ask("( { while dd if=/dev/nvme0n1 of=/dev/null bs=64k iflag=direct 2>/dev/null; do :; done;"
                       " echo over >/tmp/over; } & ); sleep 1; [ ! -e /tmp/over ]")
        self.what_is_held_shows_up()
        self.remove(query)
        self.guest.ask("until [ -e /tmp/over ]; do usleep 100000; done; rm /tmp/over")
        self.guest.ask("while [ -e /dev/nvme0n1 ]; do usleep 100000; done")
        self.add(lab.backends()[-1])
        self.remove()

    def what_is_held_shows_up(self):
        """All of this grows with the device, where the kernel shows it; or a leak would not be seen"""
        without, now = self.held[1], self.holdings()
        expect(now[0] > without[0] and now[1] > without[1], f"{without}, with the disk {now}")
        if "nr_foll_pin_acquired" in read("/proc/vmstat"):
            expect(now[3] >= 256 << 8, f"pinned pages: {without}, with the disk {now}")
        if self.page_table().exists():
            expect(now[4] > 0, f"mapped for DMA: {without}, with the disk {now}")

    def the_host_asks_it_back(self):
        """Unbinding waits until inox has let go of the device"""
        self.add(lab.backends()[0])
        unbinding = subprocess.Popen(["sh", "-c", f"echo {self.disk} >{DRIVER}/unbind"])
        self.api.gone("disk")
        self.guest.ask("[ ! -e /dev/nvme0n1 ]")
        expect_same(unbinding.wait(200), 0)
        lab.expect_match("the host asks for .* back", self.guest.errors())

    def can_be_given_once_more(self):
        lab.write("/sys/bus/pci/drivers_probe", self.disk)
        expect((DRIVER / self.disk).exists(), "vfio-pci does not take it")
        lab.output(self.inox, "ctl", "-s", SOCKET, "add-vfio", "disk", self.disk)
        self.reads_right()
        self.remove()

    def holds_no_more_in_the_end(self):
        self.expect_no_leak(self.holdings())

    def complains_of_its_lost_disk_only(self):
        self.guest.complaints("^<[0-3]>|WARNING: CPU|BUG:|hung", but="nvme0n1|nvme nvme0|Buffer I/O")

    def ends_with_the_shells_status(self):
        self.guest.type("exit 5")
        expect_same(self.guest.finish(200), 5)


lab.main(outside, inside)
