#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Debian system is saved and restored again and again while fio verifies a disk, and TCP and vsock carry checked
bytes. TCP connections live on, those of vsock are reset and made again, sockets that listen stay, its console and its
files are right, and its log is clean. In the end it powers off, and its file system is whole. One start of the lab.

    generations.py INOX
INOX_GENERATIONS: which machines, and how often each: "pci:4:3 mmio:1:20" (TRANSPORT:CPUS:TURNS; default "pci:4:3").
"""
import atexit, os, pathlib, shutil, subprocess
import lab
from lab import Guest, check, checks, expect
from saved import GUEST, HOST, TAP, Saved

MACHINES = [(transport, int(cpus), int(turns)) for transport, cpus, turns in
            (word.split(":") for word in os.environ.get("INOX_GENERATIONS", "pci:4:3").split())]
WORK = pathlib.Path("/tmp/generations")
SECONDS = 300 + sum(400 + 60 * turns for _, _, turns in MACHINES)
# What a connection of vsock may end with at a restore; another word, such as of a wrong byte, is a fault
RESET = "(reading|writing): (Connection reset by peer|Broken pipe|Transport endpoint is not connected)"
LOADS = {"disk": "fio --minimal --name=disk --filename=/dev/vdb --ioengine=libaio --direct=1 --iodepth=16"
                 " --rw=randwrite --bsrange=4k-64k --io_size=4m --verify=crc32c --verify_fatal=1",
         "tcp": f"talk to tcp:{HOST}:5001 check 4194304",
         "vsock": f"talk to vsock:2:5002 check 2097152 || grep -qE '{RESET}' /tmp/vsock.log"}


def outside(inox):
    work = lab.work_directory("generations")
    lab.compiled(work / "talk", "tools/guest/talk.c")
    lab.output("cp", "--sparse=always", "--reflink=auto", lab.dev("image"), work / "disk")
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", str(SECONDS), "--out", str(work), inox=inox,
              work=str(work), kernel=lab.dev("kernel", "6.12"), initrd=lab.dev("initramfs"))
    if not lab.failures:
        check("afterwards", the_file_system_is_clean, work / "disk")


def the_file_system_is_clean(disk):
    lab.output("e2fsck", "-fn", disk)


def inside(inox, work, kernel, initrd):
    lab.own_network()
    lab.make_tap(TAP, f"{HOST}/24")
    serve(work, f"tcp:{HOST}:5001")
    for machine in MACHINES:
        WORK.mkdir()
        Life(inox, pathlib.Path(work), kernel, initrd, *machine).live()
        shutil.rmtree(WORK)


def serve(work, address):
    server = subprocess.Popen([f"{work}/talk", "serve", address], stdin=subprocess.DEVNULL)
    atexit.register(server.kill)


class Life(Saved):
    def __init__(self, inox, out, kernel, initrd, transport, cpus, turns):
        drives = {"root": str(out / "disk"), "data": str(WORK / "data")}
        lab.write(drives["data"], "")
        os.truncate(drives["data"], 32 << 20)
        super().__init__(inox, WORK, transport, cpus, 320, kernel, initrd, drives, "root=/dev/vda rw", f"{SECONDS}s")
        self.out, self.turns = out, turns

    def live(self):
        serve(self.out, f"unix:{self.vsock}_5002")
        if not check(self.name, self.boots_and_gets_its_loads):
            return
        for turn in range(1, self.turns + 1):
            if not check(self.name, self.is_saved_and_goes_on, turn):
                return self.guest.kill()
        checks(self.name, *(self.loses_nothing_of(load) for load in reversed(LOADS)), self.has_no_complaint_in_its_log,
               self.powers_off)
        self.guest.kill()

    def boots_and_gets_its_loads(self):
        self.boot()
        self.guest.log_in(400)
        self.guest.says(str(self.cpus), "nproc")
        self.guest.ask(f"ip link set eth0 up && ip address add {GUEST}/24 dev eth0 && ping -q -c 2 -W 10 {HOST}")
        self.guest.ask("( talk serve tcp:0.0.0.0:5003 >/dev/null 2>&1 & talk serve vsock:0:5004 >/dev/null 2>&1 & )")
        for name, line in LOADS.items():
            self.guest.ask(f"""( (
                until [ -e /tmp/enough ]; do
                    {{ {line}; }} >/tmp/{name}.log 2>&1 || break
                    echo >>/tmp/{name}.turns
                done
                [ -e /tmp/enough ]; echo $? >/tmp/{name}.status) & )""")
        for name in LOADS:
            self.under_way(name)

    def turns_of(self, name):
        return int(self.guest.ask(f"cat /tmp/{name}.turns 2>/dev/null | wc -l"))

    def under_way(self, name):
        """It ends a turn, and has not given up."""
        def goes_on():
            self.guest.ask(f"[ ! -e /tmp/{name}.status ] || {{ tail -n 5 /tmp/{name}.log; false; }}")
            return self.turns_of(name) > before

        before = self.turns_of(name)
        lab.wait_until(f"{name} goes on", 400, goes_on, pause=0.5)

    def is_saved_and_goes_on(self, turn):
        self.guest.ask(f"echo word{turn} >/dev/shm/word;"
                       " head -c 1000000 /dev/urandom | tee /dev/shm/bytes >/root/bytes")
        self.save(turn, pause=True)
        self.restore(turn)
        shutil.rmtree(self.folder(turn - 1), ignore_errors=True)    # the lab keeps files in its memory
        self.guest.says(f"word{turn}", "cat /dev/shm/word")
        self.guest.ask("cmp /dev/shm/bytes /root/bytes")
        self.guest.says(str(self.cpus), "nproc")
        self.guest.ask(f"ping -q -c 2 -W 10 {HOST}")
        if self.transport == "pci":
            self.guest.ask(f"timeout 20 sh -c 'echo turn {turn} >/dev/hvc0'")
            lab.wait_until("its console says so", 20, lambda: f"turn {turn}\n" in lab.read(self.console))
        for address in (f"tcp:{GUEST}:5003", f"unix:{self.vsock}:5004"):
            lab.output(self.out / "talk", "to", address, "check", "262144")
        for name in LOADS:
            self.under_way(name)

    def loses_nothing_of(self, name):
        def all_is_right():
            self.guest.ask(f"touch /tmp/enough; until [ -e /tmp/{name}.status ]; do sleep 1; done;"
                           f" tail -n 3 /tmp/{name}.log; [ $(cat /tmp/{name}.status) = 0 ]", 600)
            lab.note(f"{self.turns_of(name)} turns: {name}")

        all_is_right.__name__ = f"loses_nothing_of_{name}"
        return all_is_right

    def has_no_complaint_in_its_log(self):
        self.guest.says(str(self.turns), "dmesg | grep -c 'crng reseeded due to virtual machine fork'")
        self.guest.complaints(*lab.AFTER_A_RESTORE)

    def powers_off(self):
        self.guest.type("poweroff")
        self.guest.finish(200)


lab.main(outside, inside)
