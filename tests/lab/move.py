#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel moves between two processes, ten times forth and back, while it reads and writes its disk, its memory
and its network: all goes on, its log is clean, and it has not seen a fork. Then an idle guest of 512 MiB moves: how
long it stands still is printed. One start of the lab.

    move.py INOX
INOX_MOVE_TURNS: how often (default 10).
"""
import json, os, pathlib
import lab
from lab import Guest, check, expect

TURNS = int(os.environ.get("INOX_MOVE_TURNS", "10"))
HOST, GUEST = "192.0.2.1", "192.0.2.2"
WORK = pathlib.Path("/tmp/move")


def outside(inox):
    lab.enter("--smp", "1", "--memory", "2600", "--timeout", "1000", inox=inox, kernel=lab.dev("kernel", "6.12"),
              initrd=lab.dev("initramfs"))


def inside(inox, kernel, initrd):
    lab.own_network()
    WORK.mkdir()
    # Two ports of one bridge: the frame that announces the guest tells the bridge where it is
    for command in ("link add inox-br type bridge", f"address add {HOST}/24 dev inox-br", "link set inox-br up"):
        lab.run("ip", *command.split())
    for tap in ("inox0", "inox1"):
        lab.make_tap(tap)
        lab.run("ip", "link", "set", tap, "master", "inox-br")
        lab.run("ip", "link", "set", tap, "up")
    Moves(inox, kernel, initrd).all()


class Moves:
    def __init__(self, inox, kernel, initrd):
        self.inox, self.kernel, self.initrd, self.number = inox, kernel, initrd, 0
        self.disk = str(WORK / "disk.img")

    def socket(self):
        return str(WORK / f"api{self.number}")

    def boot(self, memory, *more):
        self.number += 1
        self.guest = Guest(self.inox, "run", "--kernel", self.kernel, "--initrd", self.initrd, "--memory", memory,
                           "--cmdline", "console=ttyS0 quiet loglevel=1 panic=-1 net.ifnames=0", "--api-sock",
                           self.socket(), "--allow", str(WORK), "--timeout", "900s", *more)
        self.guest.enter_shell()

    def move(self, *more, downtime="300ms"):
        """To a new process, which is the guest's from then on."""
        old, old_socket = self.guest, self.socket()
        self.number += 1
        path = str(WORK / f"move{self.number}")
        new = Guest(self.inox, "run", "--incoming", f"unix:{path}", "--api-sock", self.socket(), "--allow", str(WORK),
                    "--timeout", "900s", *more)
        lab.wait_until("it waits for the guest", 60, lambda: os.path.exists(path), pause=0.01)
        moved = json.loads(lab.output(self.inox, "ctl", "-s", old_socket, "move", f"unix:{path}", "--json",
                                      "--downtime", downtime, "--timeout", "5m"))
        old.finish(60)
        self.guest = new
        return moved

    def all(self):
        lab.random_file(self.disk, 32 << 20)
        check("move", self.under_load)
        self.guest.kill()
        check("move", self.an_idle_guest_stands_still_for_a_moment)

    def under_load(self):
        self.boot("256M", "--cpus", "2", "--disk", self.disk, "--net", "inox0,id=eth0")
        guest = self.guest
        guest.ask(f"ip link set eth0 up && ip address add {GUEST}/24 dev eth0 && ping -c 2 -W 10 {HOST}")
        guest.ask("until [ -b /dev/vda ]; do usleep 20000; done")
        guest.ask("dd if=/dev/vda of=/tmp/first bs=64k count=64 2>/dev/null && sha256sum </tmp/first >/tmp/sum")
        # It reads past its cache, writes and compares, and fills a file in memory again and again
        guest.ask("( while :; do dd if=/dev/vda of=/dev/null bs=64k skip=64 count=64 iflag=direct 2>/dev/null; done & "
                  "echo $! >/tmp/reader )")
        guest.ask("( n=0; while :; do n=$((n + 1)); dd if=/dev/urandom of=/tmp/out bs=64k count=8 2>/dev/null; "
                  "dd if=/tmp/out of=/dev/vda bs=64k seek=256 count=8 conv=fsync,notrunc 2>/dev/null; "
                  "dd if=/dev/vda bs=64k skip=256 count=8 iflag=direct 2>/dev/null | cmp -s - /tmp/out || "
                  "echo $n >>/tmp/wrong; echo $n >/tmp/rounds; done & echo $! >/tmp/writer )")
        times = []
        for turn in range(1, TURNS + 1):
            # The lab copies slowly, and this guest writes all the time
            moved = self.move("--net", f"inox{turn % 2},id=eth0", downtime="3s")
            times.append(moved["downtime_ms"])
            guest = self.guest
            guest.ask("sha256sum </tmp/first | cmp - /tmp/sum")
            guest.ask("kill -0 $(cat /tmp/reader) && kill -0 $(cat /tmp/writer)")
            guest.ask(f"ping -c 1 -W 10 {HOST}")
            guest.ask("[ ! -e /tmp/wrong ]")
            before = int(guest.ask("cat /tmp/rounds").split()[-1])
            guest.ask(f"until [ $(cat /tmp/rounds) -gt {before} ]; do usleep 50000; done")
        guest.says("0", "dmesg | grep -c 'crng reseeded' || true")
        guest.says(f"AMZNC10C:00\n0x{TURNS:016X} 0x{0:016X}", lab.VM_CLOCK)
        guest.complaints(*lab.AFTER_A_RESTORE)
        lab.note(f"under load the guest stood still for {sorted(times)} ms")

    def an_idle_guest_stands_still_for_a_moment(self):
        self.boot("512M")
        self.guest.ask("sleep 5")
        times = []
        for _ in range(5):
            moved = self.move()
            times.append(moved["downtime_ms"])
            self.guest.ask("true")
            self.guest.ask("sleep 2")
        lab.note(f"an idle guest of 512 MiB stood still for {sorted(times)} ms; the last one took {moved}")
        self.guest.kill()
        expect(sorted(times)[len(times) // 2] < 1000, times)


lab.main(outside, inside)
