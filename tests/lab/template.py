#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Linux guest becomes a template, and clones of it run side by side: each draws random numbers of its own, has the
CPUs, the disk and the vsock address that it was given, and costs what the first one did. One start of the lab.

    template.py INOX
INOX_TEMPLATE_CLONES: how many (default 10).
"""
import json, os, pathlib, re
import lab
from lab import Guest, check, checks, expect, expect_same, note

CLONES = int(os.environ.get("INOX_TEMPLATE_CLONES", "10"))
WORK = pathlib.Path("/tmp/template")
COMPLAINTS = "BUG|WARNING|Oops|Call Trace|stall|lockup|hung task|I/O error"


def outside(inox):
    lab.enter("--smp", "1", "--memory", "2000", "--timeout", "900", inox=inox, kernel=lab.dev("kernel", "6.12"),
              initrd=lab.dev("initramfs"))


def inside(inox, kernel, initrd):
    WORK.mkdir()
    os.environ["XDG_RUNTIME_DIR"] = str(WORK)
    clones = Clones(inox, kernel, initrd)
    if check("", clones.a_booted_guest_is_saved):
        checks("", clones.clones_start, clones.each_draws_numbers_of_its_own, clones.each_has_its_disk,
               clones.none_complains, clones.each_has_little_memory_of_its_own,
               clones.the_last_costs_what_the_first_did)
    clones.end()


def cpu_ms(pid):
    return sum(int(lab.read(one).split()[0]) for one in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6


class Clones:
    def __init__(self, inox, kernel, initrd):
        self.inox, self.made, self.template = inox, [], None
        self.words = ["run", "--kernel", kernel, "--initrd", initrd, "--memory", "128M", "--cpus", "2", "--disk",
                      f"id=data,path={self.disk(0)}", "--vsock", f"cid=3,uds={WORK / 'vsock'}", "--api-sock",
                      str(WORK / "api"), "--allow", str(WORK)]

    def disk(self, number):
        path = WORK / f"{number}.img"
        if not path.exists():
            path.write_bytes(f"disk {number}\n".encode().ljust(1 << 20, b"\0"))
        return path

    def a_booted_guest_is_saved(self):
        guest = Guest(self.inox, *self.words)
        guest.enter_shell(600)
        guest.ask("until [ -b /dev/vda ]; do usleep 20000; done")
        # In each clone: once its generator has parted from the others'
        guest.ask("( ( until dmesg | grep -q 'reseeded due to virtual machine fork'; do usleep 50000; done; sleep 1;"
                  " echo \"drawn $(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' ')\";"
                  " echo 3 >/proc/sys/vm/drop_caches; echo \"has $(head -n 1 /dev/vda), $(nproc) CPUs\";"
                  f" dmesg | grep -E '{COMPLAINTS}' | grep -v 'Speculative Return Stack' | sed 's/^/complains: /';"
                  " echo over ) >/dev/ttyS0 & )")
        lab.output(self.inox, "ctl", "-s", str(WORK / "api"), "snapshot", str(WORK / "snap"))
        guest.kill()

    def ask(self, *words):
        return json.loads(lab.output(self.inox, "ctl", "-s", str(WORK / "t"), "--json", *words))

    def clones_start(self):
        for number in range(1, CLONES + 1):
            self.disk(number)
        self.template = Guest(self.inox, "template", str(WORK / "snap"), "--api-sock", str(WORK / "t"), "--allow",
                              str(WORK))
        lab.wait_until("the template answers", 60, lambda: lab.run(self.inox, "ctl", "-s", str(WORK / "t"),
                                                                    "status").returncode == 0)
        self.made = self.ask("spawn", "--count", str(CLONES), "--id", "c", "--disk",
                             f"id=data,path={WORK}/{{n}}.img", "--vsock", f"cid=7,uds={WORK}/vsock-{{n}}",
                             "--serial-log", f"{WORK}/log-{{n}}")["clones"]
        expect_same([one["id"] for one in self.made], [f"c-{n}" for n in range(1, CLONES + 1)])
        lab.wait_until("all have spoken", 300, lambda: all("over" in self.log(n) for n in range(1, CLONES + 1)))

    def log(self, number):
        return lab.read(WORK / f"log-{number}")

    def each_draws_numbers_of_its_own(self):
        drawn = [re.search(r"drawn ([0-9a-f]{32})", self.log(n))[1] for n in range(1, CLONES + 1)]
        expect_same(len(set(drawn)), CLONES)

    def each_has_its_disk(self):
        for number in range(1, CLONES + 1):
            lab.expect_match(f"has disk {number}, 2 CPUs", self.log(number))
            expect((WORK / f"vsock-{number}").exists(), "no socket of its vsock")

    def none_complains(self):
        for number in range(1, CLONES + 1):
            expect("complains" not in self.log(number), self.log(number))

    def paused(self):
        """More of them, that have run nothing."""
        pids, self.cpu = [], []
        for n in range(CLONES):
            pids.append(self.ask("spawn", "--paused", "--disk", f"id=data,path={self.disk(100 + n)}", "--vsock",
                                 f"cid=3,uds={WORK}/paused-{n}", "--api-sock", f"{WORK}/api-{n}")["clones"][0]["pid"])
            self.cpu.append(cpu_ms(pids[-1]))
        return pids

    def each_has_little_memory_of_its_own(self):
        self.pids = self.paused()
        dirty = [int(re.search(r"^Private_Dirty:\s+(\d+)", lab.read(f"/proc/{pid}/smaps_rollup"), re.M)[1])
                 for pid in self.pids]
        note(f"private memory of clones that wait: {min(dirty)} to {max(dirty)} KiB")
        expect(max(dirty) <= 1024, dirty)

    def the_last_costs_what_the_first_did(self):
        cpu = self.cpu
        part = max(CLONES // 3, 1)
        first, last = sorted(cpu[:part])[part // 2], sorted(cpu[-part:])[part // 2]
        note(f"CPU time of a clone's process: {first:.1f} ms of the first, {last:.1f} ms of the last")
        expect(last <= 1.5 * first + 2, cpu)

    def end(self):
        for pid in [one["pid"] for one in self.made] + getattr(self, "pids", []):
            os.kill(pid, 9)
        if self.template:
            self.template.kill()


lab.main(outside, inside)
