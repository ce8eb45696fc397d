#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guests use devices of the lab that are assigned to them: QEMU's edu (a guest of our own, interrupts by pin and by
MSI, DMA) by both kernel interfaces, alone, behind a bridge and beside another device; an NVMe disk and an e1000e
network card (Debian's kernels). One start of the lab.

    vfio.py INOX
"""
import functools, http.server, os, pathlib, re, signal, threading, time
import lab
from lab import Guest, check, checks, expect, expect_match, expect_same, read, said, shell_words

TRANSFER = 100 << 20
TRACING = pathlib.Path("/sys/kernel/tracing")
CONSOLE = "/tmp/console"
# Guest, Debian's kernel, whether it has the network card, options of the VMM, of its disk
GUESTS = [("6.1-cloud", "6.1-cloud", False, [], ",backend=container"),
          ("6.12", "6.12", True, [], ""),
          ("6.12-iommu", "6.12", False, ["--iommu"], "")]


def outside(inox):
    work = lab.work_directory("vfio")
    edu = lab.compiled(work / "edu", "tools/guest/edu.c", *lab.BARE)
    idle = lab.compiled(work / "idle", "tests/kvm/guests/idle.S", *lab.BARE)
    for name in ("files", "web", "out"):
        (work / name).mkdir()
    lab.random_file(work / "files/noise", 24000000)
    lab.random_file(work / "web/noise", TRANSFER)
    lab.write(work / "nvme", "")
    os.truncate(work / "nvme", 64 << 20)
    lab.output("mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum", "-d", work / "files", work / "nvme")
    lab.enter("--nested", "--smp", "1", "--memory", "2048", "--timeout", "1500", "--device", f"nvme={work}/nvme",
              "--device", "e1000e", "--device", "edu", "--device", "bridge", "--out", str(work / "out"),
              inox=inox, bare={"edu": edu, "idle": idle}, noise=lab.sha256(work / "files/noise"),
              web=lab.sha256(work / "web/noise"), port=serve(work / "web"),
              kernels={kernel: lab.dev("kernel", kernel) for _, kernel, *_ in GUESTS},
              initrd=lab.dev("initramfs"))
    for name, *_ in GUESTS:
        check("afterwards", the_disk_has_what_the_guest_wrote, name, work)
    check("afterwards", the_file_system_is_clean, work)


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(directory):
    """On this host's loopback address, which is the guest's 10.0.2.2; the port"""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=directory))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def the_disk_has_what_the_guest_wrote(name, work):
    wrote = read(work / f"out/written.{name}")
    lab.output("debugfs", "-R", f"dump /from.{name} {work}/dump", work / "nvme")
    expect_same(lab.sha256(work / "dump"), wrote)


def the_file_system_is_clean(work):
    lab.output("e2fsck", "-fn", work / "nvme")


# --- in the lab ---


def inside(inox, bare, kernels, initrd, **facts):
    nvme, card = (lab.bind(lab.pci_devices(ids)[0]) for ids in ("1b36:0010", "8086:10d3"))
    edu, bridged = (lab.bind(address) for address in lab.pci_devices("1234:11e8"))
    lab.bind(lab.pci_devices("8086:100e")[0])
    small = [inox, "run", "--memory", "32M", "--timeout", "200s", "--log-level", "info", "--kernel"]
    edus = Edu([*small, bare["edu"]], [*small, bare["idle"]], edu, bridged, nvme)
    for backend in lab.backends():
        for function in (edus.works, edus.works_behind_a_bridge, edus.works_beside_the_disk):
            check("edu", function, backend)
    checks("edu", edus.is_refused_twice_by_its_name, edus.is_refused_in_use_and_free_once_its_user_is_killed)
    for name, kernel, with_card, options, disk_options in GUESTS:
        command = [inox, "run", "--kernel", kernels[kernel], "--initrd", initrd, *options,
                   "--vfio", f"{nvme}{disk_options}", *(["--vfio", card] if with_card else [])]
        Disk(name, command, with_card, **facts).use()


class Edu:
    def __init__(self, command, idle, edu, bridged, nvme):
        self.command, self.idle, self.edu, self.bridged, self.nvme = command, idle, edu, bridged, nvme

    def guest(self, *devices):
        """A guest's status, and all that it and its VMM have said"""
        guest = Guest(*self.command, *(word for device in devices for word in ("--vfio", device)))
        guest.type_last()
        status = guest.finish(230)
        return status, guest.console + guest.errors()

    def use(self, *devices):
        status, text = self.guest(*devices)
        expect(status == 0, f"status {status}: {lab.tail(text, 8)}")
        return text

    def works(self, backend):
        text = self.use(f"{self.edu},backend={backend}")
        expect_match(f"opened by the {backend} interface", text)
        expect_match("served 0 accesses", text)     # none to its BAR was trapped

    def works_behind_a_bridge(self, backend):
        """Without a reset of its own, and with a neighbour that nobody else has: the bus is reset"""
        expect_match("was reset with its bus", self.use(f"{self.bridged},backend={backend}"))

    def works_beside_the_disk(self, backend):
        """Which may reach edu's BAR, where the kernel maps one for the other"""
        text = self.use(f"{self.edu},backend={backend}", f"{self.nvme},backend={backend}")
        group = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{self.nvme}/iommu_group"))
        can = "can be" if backend == "container" else "cannot be"
        expect_match(rf"\({self.edu}\) {can} reached by devices of IOMMU group {group}\b", text)

    def is_refused_twice_by_its_name(self):
        expect_match(f"{self.edu} is assigned twice", self.guest(self.edu, f"{self.edu},id=other")[1])

    def is_refused_in_use_and_free_once_its_user_is_killed(self):
        user = Guest(*self.idle, "--vfio", self.edu)
        user.wait_for("i", 200)
        expect_match(r"\[in_use\]", self.guest(self.edu)[1])
        user.process.send_signal(signal.SIGKILL)
        user.process.wait(60)
        self.use(self.edu)


DISK_LINE = """
    for i in $(seq 50); do [ -b /dev/nvme0n1 ] && break; sleep 0.2; done
    bar=$(cut -d' ' -f1 /sys/class/nvme/nvme0/device/resource | head -n 1)
    echo "bar $bar"
    echo "group $(readlink /sys/class/nvme/nvme0/device/iommu_group)"
    modprobe ext4
    mount -t ext4 /dev/nvme0n1 /mnt && echo "mounted yes"
    echo "read $(sha256sum </mnt/noise | cut -d' ' -f1)"
    head -c 8000000 /dev/urandom >/tmp/new
    cp /tmp/new /mnt/from.NAME && sync
    echo 3 >/proc/sys/vm/drop_caches
    echo "kept $(cmp /tmp/new /mnt/from.NAME && echo yes)"
    echo "written $(sha256sum </tmp/new | cut -d' ' -f1)"
    umount /mnt && echo "unmounted yes"
    """
CARD_LINE = """
    ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0
    for i in $(seq 50); do [ "$(cat /sys/class/net/eth0/carrier)" = 1 ] && break; sleep 0.2; done
    ping -q -c 3 -W 5 10.0.2.2 >/dev/null && echo "ping yes"
    echo "transfer $(wget -q -O - http://10.0.2.2:PORT/noise | sha256sum | cut -d' ' -f1)"
    """
END_LINE = """
    dmesg -r | grep -E "^<[0-3]>|WARNING: CPU|BUG:|nvme.*timeout" | sed "s/^/complaint /"
    grep -E "nvme0q|eth0" /proc/interrupts | sed "s/^/irq /"
    exit 42"""


class Disk:
    """A guest that uses the NVMe disk, and at the same time perhaps the network card."""

    def __init__(self, name, command, with_card, noise, web, port):
        self.name, self.with_card, self.noise, self.web = name, with_card, noise, web
        line = DISK_LINE.replace("NAME", name) + (CARD_LINE.replace("PORT", str(port)) if with_card else "") + END_LINE
        self.command = [*command, "--memory", "256M", "--log-level", "info", "--console", CONSOLE, "--timeout", "400s",
                        "--cmdline", f"console=ttyS0 quiet panic=-1 net.ifnames=0 {shell_words(line, 'hvc0')}"]

    def use(self):
        checks(self.name, self.the_guest_ends_with_its_status)
        lab.check_said(self.name, read(CONSOLE), {
            "mounted": "yes", "read": self.noise, "kept": "yes", "unmounted": "yes", "complaint": "",
            **({"ping": "yes", "transfer": self.web} if self.with_card else {})})
        checks(self.name, self.no_access_to_the_mapped_BAR_leaves_the_guest)
        if "--iommu" in self.command:
            check(self.name, self.the_disk_is_behind_the_virtual_IOMMU)
        lab.write(f"{os.environ['LAB_OUT']}/written.{self.name}", self.said("written"))

    def said(self, key):
        return said(read(CONSOLE), key)

    def the_guest_ends_with_its_status(self):
        watch_exits()
        lab.remove(CONSOLE)
        guest = Guest(*self.command)
        guest.type_last()
        expect_same(guest.finish(420), 42)

    def the_disk_is_behind_the_virtual_IOMMU(self):
        expect(self.said("group"), "it has no IOMMU group")

    def no_access_to_the_mapped_BAR_leaves_the_guest(self):
        """The disk's BAR is 16 KiB; the pages of the MSI-X table and of the pending bits are its last two"""
        if not (TRACING / "events/kvm/kvm_mmio").exists():
            return lab.note("no tracepoints in this kernel")
        bar = int(self.said("bar"), 16)
        places = [int(gpa, 16) - bar for gpa in re.findall("gpa (0x[0-9a-f]*)", read(TRACING / "trace"))]
        mapped = sum(0 <= place < 8192 for place in places)
        table = sum(8192 <= place < 16384 for place in places)
        lab.note(f"{self.name}: exits for the disk's BAR at {bar:#x}: {mapped} mapped, {table} table")
        expect(table > 0 and mapped == 0, "KVM's own record has others")


def watch_exits():
    """KVM's own record of emulated accesses to device memory: the judge of "no exits"."""
    if not os.path.ismount(TRACING):
        lab.run("mount", "-t", "tracefs", "none", TRACING)
    events = TRACING / "events/kvm/kvm_mmio"
    if events.exists():
        lab.write(events / "filter", "gpa >= 0x4000000000")
        lab.write(events / "enable", "1")
        lab.write(TRACING / "trace", "")


lab.main(outside, inside)
