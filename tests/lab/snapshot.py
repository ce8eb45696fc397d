#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel with disk, network, vsock and console is saved and restored again and again, in both transports and
with one and two CPUs: by inox's own commands, and by Firecracker's requests. Its disk, its network and its log are as
if nothing had happened, and two that go on from one snapshot draw different random numbers. A chain of five Diffs is
the same as a whole snapshot, with a log of written pages and without. Another process brings its memory, takes what
its balloon gives back, and dies. One start of the lab.

    snapshot.py INOX
INOX_SNAPSHOT_TURNS: how often (default 4).
"""
import hashlib, json, os, pathlib, shutil, signal, subprocess, sys, time
import lab
from lab import Guest, check, checks, expect
from saved import GUEST, HOST, TAP, Saved

TURNS = int(os.environ.get("INOX_SNAPSHOT_TURNS", "4"))
ID_PAGE = 0xef000      # of the guest
WORK = pathlib.Path("/tmp/snapshot")
TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"


def outside(inox):
    lab.enter("--smp", "1", "--memory", "2000", "--timeout", "1300", inox=inox, kernel=lab.dev("kernel", "6.12"),
              initrd=lab.dev("initramfs"))


def inside(inox, kernel, initrd):
    lab.own_network()
    lab.make_tap(TAP, f"{HOST}/24")
    WORK.mkdir()
    for transport, cpus in (("pci", 2), ("mmio", 1), ("pci", 1), ("mmio", 2)):
        Machine(inox, kernel, initrd, transport, cpus).live()
    for tracked in (True, False):
        chain(inox, kernel, initrd, tracked)


class Machine(Saved):
    def __init__(self, inox, kernel, initrd, transport, cpus):
        super().__init__(inox, WORK, transport, cpus, 256, kernel, initrd,
                         {"data": lab.random_file(WORK / "disk.img", 8 << 20)})

    def live(self):
        self.live_on()
        self.guest.kill()
        shutil.rmtree(WORK)
        WORK.mkdir()

    def live_on(self):
        if not check(self.name, self.boots_and_uses_its_devices):
            return
        for turn in range(1, TURNS + 1):
            if not check(self.name, self.is_saved_and_goes_on, turn):
                return
        checks(self.name, self.has_no_complaint_in_its_log, self.two_of_one_snapshot_draw_different_numbers)
        if (self.transport, self.cpus) in (("pci", 2), ("mmio", 1)):
            check(self.name, self.another_process_brings_its_memory)

    def boots_and_uses_its_devices(self):
        self.boot()
        self.guest.enter_shell()
        self.guest.ask(f"ip link set eth0 up && ip address add {GUEST}/24 dev eth0 && ping -c 2 -W 10 {HOST}")
        self.guest.ask("until [ -b /dev/vda ]; do usleep 20000; done")

    def is_saved_and_goes_on(self, turn):
        guest = self.guest
        # Something that is only in memory, something on the disk, and a process that runs meanwhile
        guest.ask(f"echo word{turn} >/tmp/word; dd if=/dev/urandom of=/tmp/bytes bs=4096 count=200 2>/dev/null;"
                  " sha256sum </tmp/bytes >/tmp/sum; dd if=/tmp/bytes of=/dev/vda bs=4096 conv=fsync 2>/dev/null")
        guest.ask("kill $(cat /tmp/pid 2>/dev/null) 2>/dev/null; "
                  "( while :; do dd if=/dev/vda of=/dev/null bs=64k skip=32 count=32 iflag=direct 2>/dev/null; done & "
                  "echo $! >/tmp/pid )")
        self.save(turn)
        self.restore(turn)
        shutil.rmtree(self.folder(turn - 1), ignore_errors=True)    # the machine keeps files in its memory
        guest = self.guest
        guest.says(f"word{turn}", "cat /tmp/word")
        guest.ask("sha256sum </tmp/bytes | cmp - /tmp/sum && echo 3 >/proc/sys/vm/drop_caches &&"
                  " dd if=/dev/vda bs=4096 count=200 2>/dev/null | sha256sum | cmp - /tmp/sum")
        guest.ask("kill -0 $(cat /tmp/pid)")
        guest.ask(f"ping -c 2 -W 10 {HOST}")
        guest.says(str(self.cpus), "nproc")
        guest.ask("sleep 1")
        guest.says(str(turn), "dmesg | grep -c 'crng reseeded due to virtual machine fork'")
        guest.says(f"AMZNC10C:00\n0x{turn:016X} 0x{turn:016X}", lab.VM_CLOCK)

    def has_no_complaint_in_its_log(self):
        self.guest.complaints(*lab.AFTER_A_RESTORE)

    def two_of_one_snapshot_draw_different_numbers(self):
        self.guest.kill()
        drawn = []
        for _ in range(2):
            self.restore(TURNS)
            self.guest.ask("sleep 1")
            drawn.append(self.guest.ask("head -c 16 /dev/urandom | od -An -tx1").strip())
            self.guest.kill()
        self.restore(TURNS)
        expect(drawn[0] != drawn[1], f"both drew {drawn[0]}")

    def another_process_brings_its_memory(self):
        self.guest.kill()
        pages = str(WORK / "pages")
        server = subprocess.Popen([sys.executable, TOOLS / "page_server.py", pages, self.folder(TURNS) / "memory",
                                   "--pages", "64"])
        lab.wait_until("the page server listens", 60, lambda: os.path.exists(pages))
        self.restore(TURNS, pages)
        guest = self.guest
        guest.says(f"word{TURNS}", "cat /tmp/word")
        guest.ask("sha256sum </tmp/bytes | cmp - /tmp/sum")
        for size in (16, 0):
            self.api.ask("PATCH", "/balloon", {"amount_mib": size})
            lab.wait_until(f"the balloon has {size} MiB", 120, lambda: self.balloon() == size)
        guest.ask("head -c 24m /dev/zero >/tmp/zeros && head -c 24m /dev/zero | cmp - /tmp/zeros && rm /tmp/zeros")
        guest.ask("sha256sum </tmp/bytes | cmp - /tmp/sum")
        guest.complaints(*lab.AFTER_A_RESTORE)
        for child in lab.output("pgrep", "-P", str(server.pid)).split():
            os.kill(int(child), signal.SIGKILL)
        server.kill()
        server.wait()
        lab.wait_until("the guest has ended", 30, lambda: guest.process.poll() is not None)
        expect("[page_server]" in guest.errors(), guest.errors())

    def balloon(self):
        return json.loads(self.api.ask("GET", "/balloon/statistics", status=200))["actual_mib"]


def hash_of(folder):
    """Of the memory, without the page that has the snapshot's id."""
    digest = hashlib.sha256()
    with open(folder / "memory", "rb") as file:
        digest.update(file.read(ID_PAGE))
        file.seek(ID_PAGE + 4096)
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def an_idle_guest_has_a_small_diff(part):
    expect(part < 0.05, f"{part:.1%} of what the whole one has")


def what_is_merged_is_what_is_saved_as_a_whole():
    expect(hash_of(WORK / "base") == hash_of(WORK / "full"), "the hashes differ")


def it_goes_on(guest):
    guest.ask(f"cat /tmp/read5 >/dev/null && ping -c 2 -W 10 {HOST}")
    guest.complaints(*lab.AFTER_A_RESTORE)


def chain(inox, kernel, initrd, tracked):
    """The guest writes to its memory by its CPUs, by a disk's reads and by its network, then is idle."""
    disk, socket = str(WORK / "disk.img"), str(WORK / "api")
    lab.random_file(disk, 32 << 20)
    name = "a chain with a log" if tracked else "a chain without one"
    ctl = lambda *words: lab.output(inox, "ctl", "-s", socket, *words)
    info = lambda folder: json.loads(lab.output(inox, "snapshot", "info", str(folder), "--json"))
    guest = Guest(inox, "run", "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--cpus", "2", "--cmdline",
                  "console=ttyS0 quiet loglevel=1 panic=-1 net.ifnames=0", "--disk", disk, "--net", f"{TAP},id=eth0",
                  "--api-sock", socket, "--allow", str(WORK), "--timeout", "800s",
                  *(["--track-dirty-pages"] if tracked else []))
    guest.enter_shell()
    guest.ask(f"ip link set eth0 up && ip address add {GUEST}/24 dev eth0 && ping -c 1 -W 10 {HOST}")
    guest.ask("until [ -b /dev/vda ]; do usleep 20000; done")
    ctl("snapshot", str(WORK / "base"))
    if tracked:
        time.sleep(10)
        ctl("snapshot", str(WORK / "idle"), "--diff")
        part = info(WORK / "idle")["stored_bytes"] / info(WORK / "base")["stored_bytes"]
        lab.note(f"a Diff of an idle guest after 10 s has {part:.2%} of what the whole one has")
        check(name, an_idle_guest_has_a_small_diff, part)
        lab.output(inox, "snapshot", "merge", str(WORK / "base"), str(WORK / "idle"))
    for turn in range(1, 6):
        guest.ask(f"dd if=/dev/vda of=/tmp/read{turn} bs=64k skip={turn * 32} count=32 2>/dev/null;"
                  f" dd if=/dev/urandom of=/tmp/made{turn} bs=64k count=32 2>/dev/null; ping -c 1 -W 10 {HOST};"
                  f" rm -f /tmp/made{turn - 1}")
        ctl("pause")
        ctl("snapshot", str(WORK / f"diff{turn}"), "--diff")
        if turn == 5:
            ctl("snapshot", str(WORK / "full"))
        ctl("resume")
        lab.output(inox, "snapshot", "merge", str(WORK / "base"), str(WORK / f"diff{turn}"))
        shutil.rmtree(WORK / f"diff{turn}")     # the machine keeps files in its memory
    guest.kill()
    check(name, what_is_merged_is_what_is_saved_as_a_whole)
    lab.remove(socket)
    guest = Guest(inox, "run", "--from", str(WORK / "base"), "--allow", str(WORK), "--net", f"{TAP},id=eth0",
                  "--api-sock", socket, "--timeout", "800s")
    check(name, it_goes_on, guest)
    guest.kill()
    shutil.rmtree(WORK)
    WORK.mkdir()


lab.main(outside, inside)
