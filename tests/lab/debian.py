#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Debian system lives on inox's devices: disk, network, vsock, entropy, balloon, console and a shared folder at once.
It is used over its serial console, rebooted, and used again with 4 CPUs. All of it in one start of the lab machine.

    debian.py INOX
INOX_TEST_VMM=qemu: QEMU in its place, to tell a fault of inox from one of the lab.
INOX_TEST_KERNEL: 6.1-cloud (default), 6.1 or 6.12.
INOX_DEBIAN_STRESS=MINUTES: instead, disk, network and vsock are busy for so long (tools/dev stress).
"""
import atexit, os, pathlib, re, subprocess, time
import lab, vmms
from lab import Guest, check, checks, expect, expect_same, read

VMM = os.environ.get("INOX_TEST_VMM", "inox")
MINUTES = int(os.environ.get("INOX_DEBIAN_STRESS") or 0)
KERNEL = os.environ.get("INOX_TEST_KERNEL", "6.1-cloud")
HOST, GUEST = "192.0.2.1", "192.0.2.2"


def outside(inox):
    kernel, initrd, image = lab.dev("kernel", KERNEL), lab.dev("initramfs"), lab.dev("image")
    work = lab.work_directory("debian")
    lab.random_file(work / "noise", 64 << 20)
    lab.compiled(work / "talk", "tools/guest/talk.c")
    lab.output("cp", "--sparse=always", "--reflink=auto", image, work / "disk")
    # One emulated CPU: with two, QEMU now and then runs code that the other has just patched, and a kernel dies of it
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", str(2400 + 90 * MINUTES), "--out", str(work), inox=inox,
              work=str(work), kernel=kernel, initrd=initrd, noise=lab.sha256(work / "noise"))
    check("afterwards", the_file_system_is_clean, work / "disk")


def the_file_system_is_clean(disk):
    lab.output("e2fsck", "-fn", disk)


# --- in the lab ---


def inside(inox, work, kernel, initrd, noise):
    lab.own_network()
    machine = vmms.Machine(kernel, initrd, f"{work}/disk", disk2=f"{work}/noise", tap="inox0", mac="02:00:00:00:00:02",
                           cid=3, uds="/tmp/vsock", entropy=True, balloon=32, console="/tmp/hvc0",
                           share="/tmp/share.socket", folder="/tmp/folder")
    prepare_host(machine, pathlib.Path(work))
    life = Life(inox, machine, pathlib.Path(work), noise)
    if MINUTES:
        life.under_stress()
    else:
        life.twice()


def serve(work, address):
    server = subprocess.Popen([work / "talk", "serve", address], stdin=subprocess.DEVNULL)
    atexit.register(server.kill)


def prepare_host(machine, work):
    lab.make_tap(machine.tap, f"{HOST}/24")
    serve(work, f"tcp:{HOST}:5001")
    serve(work, machine.vsock_of_host(VMM, 5002))
    (work / "shared").mkdir(exist_ok=True)
    lab.write(work / "shared/host", "from the host\n")
    os.mkdir(machine.folder)
    os.chmod(machine.folder, 0o777)


class Life:
    def __init__(self, inox, machine, work, noise):
        self.inox, self.machine, self.work, self.noise = inox, machine, work, noise

    def check(self, function, *arguments):
        return check(f"{self.machine.cpus} CPU", function, *arguments)

    def checks(self, *functions):
        return checks(f"{self.machine.cpus} CPU", *functions)

    def twice(self):
        if not self.boots(1):
            return
        self.is_used()
        self.checks(self.keeps_files, self.reboots)
        self.give_several_queues()
        if not self.boots(4):
            return
        self.checks(self.has_the_queues, self.finds_its_files_after_the_reboot)
        self.is_used()
        self.checks(self.powers_off)

    def give_several_queues(self):
        """A queue for each of 4 CPUs on the disks, two pairs on the network"""
        self.machine.queues, self.machine.pairs = 4, 2
        lab.output("ip", "link", "delete", self.machine.tap)
        lab.make_tap(self.machine.tap, f"{HOST}/24", "multi_queue")

    def boots(self, cpus):
        self.machine.cpus = cpus
        if passed := self.check(self.logs_in_on_the_serial_console):
            self.checks(self.has_its_CPUs, self.has_a_driver_for_every_virtio_device)
        return passed

    def is_used(self):
        self.checks(self.reads_the_second_disk_right_and_may_not_write_to_it, self.compiles_and_runs_a_program,
                    self.brings_its_network_up, self.pings_the_host, self.sends_and_gets_32_MiB_over_TCP,
                    self.serves_the_host_over_TCP, self.sends_and_gets_8_MiB_over_vsock,
                    self.serves_the_host_over_vsock, self.has_entropy, self.writes_to_its_console,
                    self.gives_freed_memory_back, self.uses_the_shared_folder, *self.folders_that_inox_serves(),
                    self.has_no_complaint_in_its_log)

    # --- from start to login ---

    def logs_in_on_the_serial_console(self):
        begin = time.monotonic()
        self.start_share()
        self.guest = Guest(*vmms.command(VMM, self.inox, self.machine))
        self.guest.log_in(400)
        seconds = time.monotonic() - begin
        lab.note(f"from start to login {seconds:.0f} s, of it {self.guest.ask('systemd-analyze time | head -n 1')}")

    def start_share(self):
        """A daemon serves one guest's life"""
        daemon, = (path for path in ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd") if os.path.exists(path))
        lab.remove(self.machine.share)
        with open("/tmp/virtiofsd.log", "w") as log:
            process = subprocess.Popen([daemon, f"--socket-path={self.machine.share}", "-o",
                                        f"source={self.work}/shared", "-o", "sandbox=chroot"], stdout=log, stderr=log)
        atexit.register(process.kill)
        lab.wait_until("virtiofsd has its socket", 60, lambda: os.path.exists(self.machine.share))

    def has_its_CPUs(self):
        self.guest.says(str(self.machine.cpus), "nproc")

    def has_a_driver_for_every_virtio_device(self):
        self.guest.says("", "for d in /sys/bus/virtio/devices/*; do"
                            " [ -e $d/driver ] || echo $d $(cat $d/modalias); done")

    def has_the_queues(self):
        self.guest.says("4", "ls /sys/block/vda/mq | wc -l")
        self.guest.says("2", "ls -d /sys/class/net/eth0/queues/rx-* | wc -l")

    # --- use ---

    def reads_the_second_disk_right_and_may_not_write_to_it(self):
        self.guest.says(self.noise, "dd if=/dev/vdb bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1")
        self.guest.says("refused", "dd if=/dev/zero of=/dev/vdb bs=4096 count=1 oflag=direct 2>/dev/null ||"
                                   " echo refused")

    def compiles_and_runs_a_program(self):
        self.guest.ask(r"""cd /tmp && cat >six.c <<'END'
#include <stdio.h>
int main(void) { return printf("six times seven is %d\n", 6 * 7) < 0; }
END
            cc -O2 -Wall -o six six.c""")
        self.guest.says("six times seven is 42", "./six")

    def brings_its_network_up(self):
        self.guest.ask(f"ip link set eth0 up && ip address add {GUEST}/24 dev eth0")

    def pings_the_host(self):
        self.guest.ask(f"ping -q -c 5 -i 0.2 -W 10 {HOST}")

    def sends_and_gets_32_MiB_over_TCP(self):
        self.guest.ask(f"talk to tcp:{HOST}:5001 check 33554432")

    def serves_the_host_over_TCP(self):
        self.serves("tcp:0.0.0.0:5003", f"tcp:{GUEST}:5003")

    def sends_and_gets_8_MiB_over_vsock(self):
        self.guest.ask("talk to vsock:2:5002 check 8388608")

    def serves_the_host_over_vsock(self):
        self.serves("vsock:0:5004", self.machine.vsock_of_guest(VMM, 5004))

    def serves(self, guest_address, host_address):
        """A server in the guest, and this side as its client"""
        self.guest.ask(f"(talk serve {guest_address} >/dev/null 2>&1 & echo $! >/tmp/server)")
        lab.output(self.work / "talk", "to", host_address, "check", "8388608")
        self.guest.ask("kill $(cat /tmp/server)")

    def has_entropy(self):
        self.guest.says("virtio_rng.0 64",
                        "echo $(cat /sys/class/misc/hw_random/rng_current) $(head -c 64 /dev/hwrng | wc -c)")

    def writes_to_its_console(self):
        self.guest.ask("timeout 20 sh -c 'echo a line of $(nproc) >/dev/hvc0'")
        if VMM != "qemu":
            lab.expect_match(f"a line of {self.machine.cpus}", read(self.machine.console))

    def resident(self):
        """KiB on the host of what the VMM has: the guest's memory, most of it"""
        return int(re.search(r"^Rss: +(\d+)", read(f"/proc/{self.guest.pid}/smaps_rollup"), re.M)[1])

    def gives_freed_memory_back(self):
        """What the guest frees goes back to the host by itself: of 160 MiB at least 120"""
        if VMM == "qemu":
            return
        self.guest.says(str(self.machine.balloon), "awk '/^balloon_inflate/ { print $2 / 256 }' /proc/vmstat")
        self.guest.ask("head -c 160M /dev/zero >/dev/shm/fill")
        full = self.resident()
        self.guest.ask("rm /dev/shm/fill")
        lab.wait_until(f"less than {full} KiB less 120 MiB are resident", 300,
                       lambda: self.resident() <= full - (120 << 10), pause=0.5)

    def uses_the_shared_folder(self):
        self.guest.ask("mount -t virtiofs share /mnt")
        self.guest.says("from the host", "cat /mnt/host")
        self.guest.ask("uname -r >/mnt/guest && umount /mnt")
        expect_same(read(self.work / "shared/guest").strip(), self.guest.ask("uname -r"))

    def folders_that_inox_serves(self):
        return [self.keeps_owners_in_a_folder, self.compiles_and_locks_in_a_folder] if VMM == "inox" else []

    def keeps_owners_in_a_folder(self):
        """inox is root here, so files belong to the guest's users"""
        self.guest.ask("mkdir -p /folder && mount -t virtiofs folder /folder")
        self.guest.ask("setpriv --reuid 1000 --regid 1001 --clear-groups sh -c"
                       " 'umask 022; cd /folder; echo text >mine; mkdir sub; ln -s mine link; mkfifo pipe'")
        self.guest.says("1000:1001 644\n1000:1001 755\n1000:1001 777\n1000:1001 644",
                        "cd /folder; stat -c '%u:%g %a' mine sub link pipe; cd /")
        self.guest.ask("cd /folder && chown 3:4 mine && mknod null c 1 3 && cd /")
        there = os.stat(f"{self.machine.folder}/mine")
        expect_same((there.st_uid, there.st_gid), (3, 4))
        self.guest.ask("tar cf /tmp/folder.tar -C /folder . && mkdir /folder/again &&"
                       " tar xpf /tmp/folder.tar -C /folder/again && diff /folder/mine /folder/again/mine")
        self.guest.says("3:4 1000:1001 character special file",
                        "cd /folder/again; echo $(stat -c %u:%g mine sub) $(stat -c %F null); cd /")

    def compiles_and_locks_in_a_folder(self):
        self.guest.ask("cp /tmp/six.c /folder && cc -O2 -o /folder/six /folder/six.c")
        self.guest.says("six times seven is 42", "/folder/six")
        self.guest.says("taken", "( flock /folder/lock sleep 4 & ) ; sleep 1; flock -n /folder/lock true || echo taken")
        self.guest.says("had", "flock /folder/lock echo had")
        self.guest.ask("rm -r /folder/* && umount /folder")
        expect_same(os.listdir(self.machine.folder), [])

    def has_no_complaint_in_its_log(self):
        self.guest.complaints("WARNING: CPU|BUG:|[Oo]ops|I/O error|virtio.*(fail|error)|hung task")

    # --- from one life to the next ---

    def keeps_files(self):
        self.guest.ask("mkdir -p /root/kept && cd /root/kept && head -c 20000000 /dev/urandom >a && seq 100000 >b &&"
                       " sha256sum a b >sums && sync")

    def finds_its_files_after_the_reboot(self):
        self.guest.ask("cd /root/kept && sha256sum -c sums && rm -r /root/kept")

    def reboots(self):
        self.leaves_by("reboot")

    def powers_off(self):
        self.leaves_by("poweroff")

    def leaves_by(self, word):
        self.guest.type(word)
        expect_same(self.guest.finish(200), 0)

    # --- stress: disk, network and vsock are busy at once; each loop ends with status 1 at the first wrong byte ---

    def under_stress(self):
        lab.write("/tmp/stress.disk", "")
        os.truncate("/tmp/stress.disk", 300 << 20)
        self.machine.disk3 = "/tmp/stress.disk"
        self.give_several_queues()
        if not self.boots(4) or not self.check(self.brings_its_network_up):
            return
        loads = {"disk": "fio --minimal --name=disk --filename=/dev/vdc --ioengine=libaio --direct=1 --iodepth=16"
                         " --rw=randwrite --bsrange=4k-256k --verify=crc32c --verify_fatal=1",
                 "files": "cp -r /usr/include /root/a && diff -r /usr/include /root/a && rm -r /root/a",
                 "tcp": f"talk to tcp:{HOST}:5001 check 16777216",
                 "vsock": "talk to vsock:2:5002 check 4194304"}
        for name, line in loads.items():
            self.start_load(name, line)
        time.sleep(MINUTES * 60)
        self.check(self.is_awake_after_minutes, MINUTES)
        for name in reversed(loads):
            self.check(self.loses_nothing, name)
        self.checks(self.has_no_complaint_in_its_log, self.powers_off)

    def start_load(self, name, line):
        """The guest does it again and again until /tmp/enough exists, and counts its turns"""
        self.guest.ask(f"""( (turns=0
            until [ -e /tmp/enough ]; do
                {{ {line}; }} >/tmp/{name}.log 2>&1 || break
                turns=$((turns + 1)); echo $turns >/tmp/{name}.turns
            done
            [ -e /tmp/enough ]; echo $? >/tmp/{name}.status) & )""")

    def is_awake_after_minutes(self, _):
        self.guest.ask("touch /tmp/enough")

    def loses_nothing(self, name):
        self.guest.ask(f"until [ -e /tmp/{name}.status ]; do sleep 1; done; tail -n 3 /tmp/{name}.log;"
                       f" [ $(cat /tmp/{name}.status) = 0 ] && [ -e /tmp/{name}.turns ]", 600)
        lab.note(f"{self.guest.ask(f'cat /tmp/{name}.turns')} turns: {name}")


lab.main(outside, inside)
