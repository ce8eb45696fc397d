#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What fails at the host while a Debian guest runs: a full disk, sectors that cannot be read, a block device, a tap and
peers that go, memory pressure, jumps of the clock, processes that are stopped, no memory at all. Each time the guest
gets an error or waits, the operator gets a line, the API answers, the other devices work, and the device works again
when the fault is over. One start of the lab, one guest with Linux.

    host_faults.py INOX
"""
import concurrent.futures, http.client, json, os, pathlib, re, signal, socket, time
import faults, lab
from faults import FIRST_BAD, GROUPS, HOST, MIB, PATIENCE, SHARED, SMALL, SOCKET, WORK
from faults import FaultyHost, digest, in_group, processes
from lab import Guest, check, checks, expect, expect_same, read

STOP = 30       # seconds, meanwhile passt has its minute's rest


def outside(inox):
    work = lab.work_directory("host-faults")
    image = work / "nvme"
    lab.random_file(image, FIRST_BAD * MIB)
    os.truncate(image, 16 * MIB)
    lab.enter("--nested", "--smp", "1", "--memory", "1536", "--timeout", "1400", "--device", f"nvme={image}",
              "--visible", work, inox=inox, kernel=lab.dev("kernel", "6.12"), initrd=lab.dev("initramfs"),
              talk=lab.compiled(work / "talk", "tools/guest/talk.c"),
              touch=lab.compiled(work / "touch", "tests/lab/touch.c", *lab.BARE))


def inside(inox, kernel, initrd, talk, touch):
    lab.own_network()
    lab.make_tap("tap0", f"{HOST}/24")
    lab.make_tap("tap1")
    for folder in (SMALL, SHARED):
        folder.mkdir(parents=True)
    lab.output("mount", "-t", "tmpfs", "-o", "size=8m", "small", SMALL)
    lab.write(GROUPS / "cgroup.subtree_control", "+memory")
    lab.output("cp", talk, SHARED / "talk")
    life = Life(inox, kernel, initrd, talk)
    if check("", life.boots_to_a_shell):
        checks("", life.a_disk_is_full, life.sectors_cannot_be_read, life.a_block_device_is_gone, life.a_tap_is_gone,
               life.passt_is_killed, life.passt_dies_again_and_again, life.a_listener_of_vsock_is_killed,
               life.the_server_of_a_share_stands_still, life.the_server_of_a_share_is_killed, life.memory_is_short,
               life.memory_is_very_short, life.the_clock_jumps, life.the_broker_stands_still, life.inox_is_stopped,
               life.passt_is_back, life.the_broker_is_killed, life.its_kernel_complains_of_lost_disks_only,
               life.ends_as_if_nothing_had_been)
    bare = Bare(inox, touch)
    checks("", bare.is_not_silent_while_inox_is_stopped, bare.is_killed_for_its_memory)


class Life(FaultyHost):
    """From the guest's boot to its end."""

    # --- storage ---

    def write_piece(self, number, disk="vda"):
        return (f"dd if=/tmp/pattern of=/dev/{disk} bs=64k seek=$(({number} * 16)) oflag=direct conv=notrunc,fsync"
                " 2>/tmp/err")

    def sums(self, disk, first, count=1):
        return self.guest.ask(f"for i in $(seq {first} {first + count - 1}); do dd if=/dev/{disk} bs=1M count=1 skip=$i"
                              " iflag=direct 2>/dev/null | sha256sum; done").splitlines()

    def a_disk_is_full(self):
        """And has room again. All that was acknowledged is there, also what is written over while it is full"""
        with self.fault("a full disk"):
            pieces = int(self.guest.ask(f"n=0; while {self.write_piece('n')}; do n=$((n + 1)); done; echo $n"))
            expect(4 <= pieces <= 6, f"{pieces} MiB had room")
            self.fails(self.write_piece(pieces).replace("2>/tmp/err", ""))
            expect_same(self.sums("vda", 0, pieces), [self.pattern] * pieces)
            self.guest.ask(self.write_piece(1))
            self.others_work()
        self.logs(f"writing to '{self.full}' failed: No space left on device")
        self.is_shown("execute_fails", "full", 1)
        self.room.unlink()
        self.guest.ask(self.write_piece(pieces))
        expect_same(self.sums("vda", 0, pieces + 1), [self.pattern] * (pieces + 1))

    def sectors_cannot_be_read(self):
        """For a while, on an NVMe disk. They are an error, all others are right, and a write makes a sector good"""
        wanted = self.sums("vdd", 0, FIRST_BAD - 1)
        expect_same(wanted[0].split()[0], digest("/dev/nvme0n1", MIB))
        faults.forget_pages()
        faults.set_error_recovery("/dev/nvme0", 1 << 16)
        with self.fault("sectors that cannot be read"):
            self.fails(f"dd if=/dev/vdd bs=64k count=1 skip={FIRST_BAD * 16 + 16} iflag=direct")
            expect_same(self.sums("vdd", 0, FIRST_BAD - 1), wanted)
            self.guest.ask(self.write_piece(FIRST_BAD + 2, "vdd"))
            faults.forget_pages()
            expect_same(self.sums("vdd", FIRST_BAD + 2), [self.pattern])
            self.others_work()
        self.logs("reading from '/dev/nvme0n1' failed: Input/output error")
        self.is_shown("execute_fails", "bad", 1)
        faults.set_error_recovery("/dev/nvme0", 0)
        self.guest.says("0", f"dd if=/dev/vdd bs=64k count=1 skip={FIRST_BAD * 16 + 16} iflag=direct 2>/dev/null |"
                        " tr -d '\\0' | wc -c")

    def a_block_device_is_gone(self):
        """Torn out of the host under the guest's disk. The guest gives the disk back, and gets it again"""
        start = self.sums("vdd", 0)
        with self.fault("a block device that is gone"):
            lab.write("/sys/class/nvme/nvme0/device/remove", "1")
            self.fails(f"dd if=/dev/vdd bs=64k count=1 skip={FIRST_BAD * 16 + 48} iflag=direct")
            self.fails("dd if=/tmp/pattern of=/dev/vdd bs=64k count=1 oflag=direct conv=notrunc,fsync")
            self.others_work()
            self.logs("(reading from|writing to|flushing) '/dev/nvme0n1' failed")
            self.is_shown("execute_fails", "bad", 3)
            self.api.ask("DELETE", "/inox/devices/bad")
            self.api.gone("bad")
            lab.write("/sys/bus/pci/rescan", "1")
            path = lab.wait_until("the host has it again", 60, lambda: [*pathlib.Path("/dev").glob("nvme?n1")])[0]
            self.api.ask("PUT", "/inox/devices/bad", {"disk": {"path_on_host": str(path)}})
            self.guest.ask("until [ -b /dev/vdd ]; do usleep 20000; done")
        expect_same(self.sums("vdd", 0), start)

    # --- networks and other peers ---

    def carrier(self, interface, wanted):
        self.guest.ask(f"until [ $(cat /sys/class/net/{interface}/carrier) = {wanted} ]; do usleep 50000; done", 60)

    def a_tap_is_gone(self):
        with self.fault("a tap that is gone"):
            lab.output("ip", "link", "delete", "tap0")
            self.carrier("eth0", 0)
            self.logs("tap 'tap0' is gone .*the link is down until it comes back")
            self.guest.says("lost", f"ping -c 1 -W 1 {HOST} >/dev/null 2>&1 || echo lost")
            self.others_work(but="tap")
            self.is_shown("link_up", "tap", 0, 0)
            lab.make_tap("tap0", f"{HOST}/24")
            self.carrier("eth0", 1)
            self.logs("tap 'tap0' is back; the link is up")
        self.guest.ask(f"ping -c 3 -W 10 {HOST}")

    def passt_is_killed(self):
        with self.fault("passt, killed"):
            faults.kill(faults.passts())
            # A busy host learns of the signal later than of the closed socket
            self.logs(r"passt is gone \(.*(signal 9|closed the connection).*the link is down")
            self.logs("passt is back; the link is up")
            self.carrier("eth1", 1)
            self.forwards()
            self.others_work()
        self.is_shown("tap_lost_count", "user", 1, 1)

    def passt_dies_again_and_again(self):
        """inox then leaves it alone for a minute: passt_is_back"""
        with self.fault("passt, killed again and again"):
            limit = time.monotonic() + 200
            while "passt ended 5 times in a row: inox starts it again in a minute" not in self.guest.errors():
                expect(time.monotonic() < limit, "inox starts it without end")
                faults.kill(faults.passts())
                time.sleep(0.3)
            self.passt_ended = time.monotonic()
            self.others_work()
        self.is_shown("tap_lost_count", "user", 2, 8)
        self.is_shown("link_up", "user", 0, 0)

    def passt_is_back(self):
        self.forwards(90)
        lab.note(f"passt forwards again {time.monotonic() - self.passt_ended:.0f} s later")
        self.carrier("eth1", 1)

    def a_listener_of_vsock_is_killed(self):
        """In the middle of a transfer; then the guest's program connects until there is one again"""
        self.in_background("/tmp/talk to vsock:2:6000 send 60 >/tmp/sent 2>&1")
        self.is_under_way()
        with self.fault("a listener of vsock, killed"):
            os.killpg(self.listener.pid, signal.SIGKILL)
            self.listener.wait()
            self.is_done("1")
            lab.expect_match("writing: (Connection reset by peer|Broken pipe)", self.guest.ask("cat /tmp/sent"))
            self.in_background("/tmp/talk to vsock:2:6000 check 65536 >/tmp/sent 2>&1")
            self.is_under_way()
            self.others_work(but="vsock")
            self.listen()
            self.is_done()

    def the_server_of_a_share_stands_still(self):
        """The guest's processes wait for it, and go on"""
        server, = processes("share-server")
        with self.fault("a share's server that stands still"):
            os.kill(server, signal.SIGSTOP)
            self.in_background("echo 3 >/proc/sys/vm/drop_caches; cmp /work/talk /tmp/talk")
            self.is_under_way()
            self.others_work(but="share")
            os.kill(server, signal.SIGCONT)
            self.is_done()
            self.others_work()

    def the_server_of_a_share_is_killed(self):
        with self.fault("a share's server, killed"):
            faults.kill(processes("share-server"))
            self.logs(r"its server is gone \(was ended by signal 9\); requests fail until the guest mounts the folder"
                      " again")
            self.guest.says("no", "ls /work/talk >/dev/null 2>&1 || echo no")
            self.others_work(but="share")
            self.guest.ask("umount /work; until mount -t virtiofs shared /work 2>/dev/null; do usleep 300000; done", 60)
            self.others_work()
        expect_same(len(processes("share-server")), 1)

    # --- the machine ---

    def memory_events(self):
        return {name: int(count) for name, count in map(str.split, read(GROUPS / "faults/memory.events").splitlines())}

    def memory_is_short(self):
        """What inox may use is just above what it uses. The guest gets more, slowly, and the API answers"""
        before, used = self.memory_events()["high"], int(read(GROUPS / "faults/memory.current"))
        self.pause()
        with self.fault("memory pressure"):
            lab.write(GROUPS / "faults/memory.high", str(used + 2 * MIB))
            for piece in range(0, 640, 32):     # the guest may have some that it does not use
                self.guest.ask(f"dd if=/dev/zero of=/tmp/fill bs=64k count=32 seek={piece} conv=notrunc 2>/dev/null")
                if self.memory_events()["high"] > before:
                    break
            self.others_work()
        expect(self.memory_events()["high"] > before, "the kernel did not count it")
        lab.note(f"memory pressure: above {used / MIB:.0f} MiB the guest's longest pause was {self.pause():.1f} s")

    def memory_is_very_short(self):
        """Nothing of it can be had elsewhere, and the kernel lets every thread of inox sleep for up to two seconds
        whenever it takes a page. All goes on when there is memory again"""
        group = GROUPS / "faults"
        lab.write(group / "memory.high", "max")
        self.in_background("sleep 1; dd if=/dev/zero of=/tmp/more bs=64k count=640 2>/dev/null")
        used = int(read(group / "memory.current"))
        lab.write(group / "memory.high", str(used + 4 * MIB))
        time.sleep(6)
        got = int(read(group / "memory.current")) - used
        lab.write(group / "memory.high", "max")
        with self.fault("memory pressure that has ended", limit=10):
            self.is_done()
            self.others_work()
        lab.note(f"memory pressure: inox got {got / MIB:.0f} of 40 MiB; the guest's longest pause was "
                 f"{self.pause():.1f} s")
        expect_same(self.memory_events()["oom_kill"], 0)
        self.guest.says(f"{40 * MIB} 0", "cd /tmp; echo $(wc -c <more) $(cat fill more | tr -d '\\0' | wc -c);"
                        " rm fill more")

    def the_clock_jumps(self):
        """A day ahead and back again, in the middle of what waits for time: a timer and a limited disk of the guest, a
        stream of events, a client that is connected, --timeout and --quiet-for"""
        client = http.client.HTTPConnection("localhost")
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.settimeout(60)
        client.sock.connect(SOCKET)
        same_client(client)
        events = self.api.open("GET", "/inox/events")
        self.pause()
        begin, up = time.monotonic(), self.uptime()
        with self.fault("jumps of the clock"):
            start = time.monotonic()
            self.in_background("sleep 2; dd if=/dev/vdc of=/dev/null bs=64k count=32 iflag=direct 2>/dev/null")
            for days in (1, -1):
                time.sleep(1.3)
                time.clock_settime(time.CLOCK_REALTIME, time.time() + days * 86400)
            self.is_done()
            took = time.monotonic() - start
            same_client(client)
            self.others_work()
        expect(4.5 < took < 45, f"2 s of sleep, and 2 MiB at 0.5 MiB/s, took {took:.1f} s")
        self.api.ask("PATCH", "/vm", {"state": "Paused"})
        self.api.ask("PATCH", "/vm", {"state": "Resumed"})
        while '"resumed"' not in (line := events.readline().decode()):
            expect(line, "the stream of events has ended")
        drift = (self.uptime() - up) - (time.monotonic() - begin)
        lab.note(f"jumps of the clock: sleep and limited disk took {took:.1f} s; the guest's clock went {drift:+.2f} s "
                 f"against the host's, and paused for {self.pause():.1f} s")
        expect(abs(drift) < 2, f"the guest's clock went {drift:+.2f} s against the host's")

    def uptime(self):
        return float(self.guest.ask("cat /proc/uptime").split()[0])

    def the_broker_stands_still(self):
        """While a request needs it. That one is refused after five seconds; meanwhile no other client waits, nor does
        the guest, whose connections to the host are reset. Later the same request is done"""
        broker, = processes("inox-broker", parent=self.guest.pid)
        disk = {"disk": {"path_on_host": str(WORK / "late")}}
        self.pause()
        os.kill(broker, signal.SIGSTOP)
        try:
            with self.fault("a broker that stands still", limit=2), concurrent.futures.ThreadPoolExecutor() as beside:
                refused = beside.submit(self.put, disk)
                self.guest.says("refused", "/tmp/talk to vsock:2:6000 check 64 >/dev/null 2>&1 || echo refused")
                self.others_work(but="vsock")
                took, answer = refused.result(20)
        finally:
            os.kill(broker, signal.SIGCONT)
        pause = self.pause()
        lab.note(f"a broker that stands still: '{answer}' after {took:.1f} s; the guest's longest pause was "
                 f"{pause:.1f} s")
        lab.expect_match("does not answer.*inox-broker", answer)
        expect(4 < took < 5 + PATIENCE and pause < PATIENCE, "that is too long")
        self.api.ask("PUT", "/inox/devices/late", disk)
        self.broker_is("answers")
        self.guest.ask("until [ -b /dev/vde ]; do usleep 20000; done")
        self.guest.says(lab.sha256(WORK / "late"), "sha256sum </dev/vde | cut -d' ' -f1")
        self.api.ask("DELETE", "/inox/devices/late")
        self.api.gone("late")

    def put(self, disk):
        begin = time.monotonic()
        answer = lab.Api(SOCKET).ask("PUT", "/inox/devices/late", disk, 400)
        return time.monotonic() - begin, answer

    def broker_is(self, wanted):
        expect_same(json.loads(self.api.ask("GET", "/inox/status", status=200))["broker"], wanted)

    def inox_is_stopped(self):
        """While the guest writes, and computes. No clock of the guest's or of inox's takes it for a lockup, although it
        takes longer than Linux lets a CPU do the same (20 s) or hold RCU up (21 s)"""
        self.guest.ask("dmesg | wc -l >/tmp/lines")
        early = f"read up rest </proc/uptime && [ ${{up%.*}} -lt {self.uptime() + 4:.0f} ]"
        self.in_background(f"while {self.write_piece(0)} && {early}; do :; done")
        self.guest.ask("( while :; do :; done & echo $! >/tmp/busy )")
        self.pause()
        time.sleep(1)
        os.kill(self.guest.pid, signal.SIGSTOP)
        time.sleep(STOP)
        os.kill(self.guest.pid, signal.SIGCONT)
        with self.fault("inox, stopped"):
            self.guest.ask("kill $(cat /tmp/busy)")
            self.is_done()
            self.guest.says("", "cat /tmp/err | grep -v records | grep -v copied || true")
            expect_same(self.sums("vda", 0), [self.pattern])
            self.others_work()
            pause = self.pause()
        said = self.guest.ask("dmesg | tail -n +$(($(cat /tmp/lines) + 1)) | head -n 3")
        lab.note(f"inox, stopped for {STOP} s: the guest's clock jumps by {pause:.1f} s; its kernel says '{said}'")
        expect(STOP - 1 < pause < 2 * STOP + 20, f"the guest's longest pause was {pause} s")
        expect(not re.search("lockup|stall|hung|WARNING|BUG", said), said)

    def the_broker_is_killed(self):
        """What is open works on; what would have to be opened is refused, with what to do about it"""
        with self.fault("a broker, killed"):
            faults.kill(processes("inox-broker", parent=self.guest.pid))
            self.logs("the process that opens files for inox has ended: nothing can be opened any more")
            answer = self.api.ask("PUT", "/inox/devices/late", {"disk": {"path_on_host": str(WORK / "late")}}, 400)
            lab.expect_match("has ended.*start inox again", answer)
            self.broker_is("ended")
            self.others_work(but="vsock")

    def its_kernel_complains_of_lost_disks_only(self):
        self.guest.complaints("^<[0-3]>|WARNING: CPU|BUG:|hung|lockup|stall",
                              but="I/O error, dev vd[ad]|Buffer I/O|lost async page write")

    def ends_as_if_nothing_had_been(self):
        """With its own status: --fail-on kernel has found nothing"""
        self.guest.type("exit 0")
        expect_same(self.guest.finish(120), 0)


def same_client(connection):
    connection.request("GET", "/inox/status")
    answer = connection.getresponse()
    answer.read()
    expect_same(answer.status, 200)


class Bare:
    """A guest without an operating system, that does what it is told."""

    def __init__(self, inox, touch):
        self.inox, self.group, self.run = inox, GROUPS / "bare", [inox, "run", "--kernel", touch, "--memory", "256M"]
        self.names = ["--net", "tap1", "--vsock", f"cid=4,uds={WORK}/bare", "--share", f"tag=shared,path={SHARED}",
                      "--disk", str(WORK / "late"), "--api-sock", f"{WORK}/bare.api", "--id", "bare"]

    def start(self, *words):
        guest = Guest(*in_group("bare", *self.run, *words))
        guest.wait_for("ready\n", 60)
        return guest

    def is_not_silent_while_inox_is_stopped(self):
        """The time in which inox did not run does not count for --quiet-for"""
        guest = self.start("--quiet-for", "6s", "--fail-on", "kernel")
        guest.type("x", end="")
        guest.wait_for("touched 1\n", 20)
        time.sleep(1)
        os.kill(guest.pid, signal.SIGSTOP)
        time.sleep(8)
        os.kill(guest.pid, signal.SIGCONT)
        time.sleep(1.5)
        expect(guest.process.poll() is None, f"it was ended: {guest.errors()}")
        guest.type("x", end="")
        guest.wait_for("touched 2\n", 20)
        guest.stop()
        expect_same(guest.process.returncode, 143)

    def is_killed_for_its_memory(self):
        """By the kernel, and nothing of it is in the way of the next one, which has all of the same names"""
        guest = self.start(*self.names)
        used = int(read(self.group / "memory.current"))
        lab.write(self.group / "memory.max", str(used + 16 * MIB))
        guest.type("x" * 100, end="")
        expect_same(guest.finish(60), 128 + signal.SIGKILL)
        expect("touched 1\n" in guest.console and "touched 100\n" not in guest.console, lab.tail(guest.console, 5))
        lab.expect_match("^oom_kill [1-9]", read(self.group / "memory.events"))
        lab.wait_until("its helpers are gone", 30, lambda: not read(self.group / "cgroup.procs"))
        expect("bare" not in lab.output(self.inox, "ps"), "it is listed")
        lab.write(self.group / "memory.max", "max")
        again = self.start(*self.names)
        again.type("x" * 100, end="")
        again.wait_for("touched 100\n", 60)
        expect(lab.Api(f"{WORK}/bare.api").listed("drive0"), "the API does not list the disk")
        lab.expect_match("^bare ", lab.output(self.inox, "ps"))
        again.stop()
        lab.wait_until("its helpers are gone", 30, lambda: not read(self.group / "cgroup.procs"))
        self.group.rmdir()


lab.main(outside, inside)
