#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Debian guest in each kind of jail: inox run with an assigned NVMe disk, a TAP in a network namespace, a disk that
is plugged in later and control groups; and a copy of inox named firecracker in the folder of Firecracker's jailer,
driven by its API. Whatever is killed, nothing of a jail stays. One start of the lab.

    jail.py INOX
"""
import json, os, pathlib, shutil, signal, subprocess, time
import lab
from lab import Guest, check, checks, expect, expect_same, read

UID, GID = 3001, 3002
GROUPS = pathlib.Path("/sys/fs/cgroup")
PARENT = "inox-lab"
HOST, GUEST = "192.0.2.1", "192.0.2.2"
NETWORK, OUT, DISKS, BASE = "/tmp/network", "/tmp/out", "/tmp/disks", "/tmp/jails"
CMDLINE = "console=ttyS0 quiet loglevel=1 panic=-1 net.ifnames=0"


def outside(inox):
    lab.enter("--nested", "--smp", "1", "--memory", "1536", "--timeout", "1500", "--device", "nvme", inox=inox,
              kernel=lab.dev("kernel", "6.12"), initrd=lab.dev("initramfs"))


def inside(inox, kernel, initrd):
    for folder in (OUT, DISKS, BASE):
        os.mkdir(folder)
    os.chown(OUT, UID, GID)
    make_network()
    check("", control_groups_of_version_2, inox)
    run = Run(inox, kernel, initrd)
    if check("run", run.boots_to_a_shell):
        checks("run", run.is_another_user_without_rights, run.has_a_root_with_what_it_needs, run.has_its_limits,
               run.reads_the_assigned_disk, run.reaches_the_network, run.gets_a_disk_later,
               run.ends_with_the_guests_status, run.leaves_nothing)
    for victim in ("jail", "first process", "inox"):
        check("run", run.is_killed_and_leaves_nothing, victim)
    check("run", run.starts_again_after_all_that)
    program = Program(inox, kernel, initrd)
    if check("program", program.boots_by_the_api):
        checks("program", program.has_the_jailers_files, program.has_its_limits, program.says_what_the_guest_says,
               program.is_killed_and_leaves_nothing)


def make_network():
    """A network namespace with a TAP of the jail's user"""
    lab.write(NETWORK, "")
    lab.output("unshare", f"--net={NETWORK}", "true")
    for words in (["link", "set", "lo", "up"], ["tuntap", "add", "dev", "tap0", "mode", "tap", "user", str(UID)],
                  ["address", "add", f"{HOST}/24", "dev", "tap0"], ["link", "set", "tap0", "up"]):
        lab.output("nsenter", f"--net={NETWORK}", "ip", *words)


def control_groups_of_version_2(inox):
    """What the command line's test cannot check on a host that has them read-only"""
    controllers = read(GROUPS / "cgroup.controllers").split()
    expect({"memory", "pids"} <= set(controllers), f"the lab has only {controllers}")
    done = lab.run("bash", lab.ROOT / "tests/cli/jail_cgroup_test.sh", inox, lab.ROOT, seconds=500)
    expect(done.returncode == 0 and "not checked: control groups of version 2" not in done.stdout,
           f"status {done.returncode}: {lab.tail(done.stdout, 12)}")


def children(pid):
    return [int(word) for word in lab.run("pgrep", "-P", str(pid)).stdout.split()]


def status(pid, key):
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith(key + ":"):
            return line.split(":")[1].split()
    return []


def is_gone(pid):
    return not os.path.exists(f"/proc/{pid}") or status(pid, "State")[:1] in ([], ["Z"])


class Run:
    def __init__(self, inox, kernel, initrd):
        self.nvme = lab.pci_devices("1b36:0010")[0]
        block, = pathlib.Path("/sys/bus/pci/devices", self.nvme, "nvme").glob("*/nvme*n1")
        self.sum = lab.sha256(f"/dev/{block.name}")
        lab.bind(self.nvme)
        self.mounts = len(read("/proc/self/mountinfo").splitlines())
        self.command = [
            inox, "jail", "--uid", str(UID), "--gid", str(GID), "--netns", NETWORK,
            "--parent-cgroup", PARENT, "--cgroup", "memory.max=700M", "--cgroup", "pids.max=60",
            "--resource-limit", "no-file=512", "--", "run", "--kernel", kernel, "--initrd", initrd, "--memory", "256M",
            "--cmdline", CMDLINE, "--vfio", self.nvme, "--net", "tap0", "--api-sock", f"{OUT}/api",
            "--allow", DISKS, "--timeout", "1400s"]

    def start(self):
        self.guest = Guest(*self.command)
        self.outer = self.guest.pid
        lab.wait_until("inox is in its jail", 120, lambda: children(self.outer) and children(children(self.outer)[0]))
        self.first = children(self.outer)[0]
        self.inox = children(self.first)[0]

    def boots_to_a_shell(self):
        self.start()
        self.guest.enter_shell()
        self.guest.says("quiet", "echo quiet")

    def is_another_user_without_rights(self):
        expect_same(status(self.inox, "Uid") + status(self.inox, "Gid"), [str(UID)] * 4 + [str(GID)] * 4)
        expect_same(status(self.inox, "CapEff"), ["0000000000000000"])
        expect_same(status(self.inox, "NoNewPrivs"), ["1"])
        expect_same(status(self.inox, "NSpid")[-1], "2")
        expect_same(status(self.inox, "Groups"), [])

    def has_a_root_with_what_it_needs(self):
        root = pathlib.Path(f"/proc/{self.inox}/root")
        group = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{self.nvme}/iommu_group"))
        for path in ("dev/kvm", "dev/net/tun", "dev/vfio/vfio", f"dev/vfio/{group}"):
            expect_same(((root / path).stat().st_uid, (root / path).stat().st_mode & 0o777), (UID, 0o600))
        for path in ("etc", "usr", "var", "boot"):
            expect(not (root / path).exists(), f"/{path} is in the jail")
        seen = [name for name in os.listdir(root / "proc") if name.isdigit()]
        expect_same(sorted(seen), ["1", "2", "3"])  # 3 opens files for 2

    def has_its_limits(self):
        group, = (GROUPS / PARENT).glob("g*")
        expect_same(read(group / "memory.max").strip(), str(700 << 20))
        expect_same(read(group / "pids.max").strip(), "60")
        expect(str(self.inox) in read(group / "cgroup.procs").split(), "inox is not in its control group")
        limits = read(f"/proc/{self.inox}/limits")
        lab.expect_match(r"^Max open files\s+512\s+512\s", limits)

    def reads_the_assigned_disk(self):
        self.guest.ask("modprobe nvme; until [ -b /dev/nvme0n1 ]; do usleep 20000; done")
        self.guest.says(self.sum, "sha256sum </dev/nvme0n1 | cut -d' ' -f1")

    def reaches_the_network(self):
        self.guest.ask(f"ip addr add {GUEST}/24 dev eth0; ip link set eth0 up")
        self.guest.ask(f"until ping -c 1 -W 2 {HOST} >/dev/null; do usleep 100000; done")

    def gets_a_disk_later(self):
        """Whose file came into the folder after the start"""
        disk = f"{DISKS}/late.{time.monotonic_ns()}"
        lab.random_file(disk, 1 << 20)
        os.chown(disk, UID, GID)
        api = lab.Api(f"{OUT}/api")
        api.ask("PUT", "/inox/devices/late", {"disk": {"path_on_host": disk}})
        self.guest.ask("until [ -b /dev/vda ]; do usleep 20000; done")
        self.guest.says(lab.sha256(disk), "sha256sum </dev/vda | cut -d' ' -f1")
        api.ask("DELETE", "/inox/devices/late")
        api.gone("late")

    def ends_with_the_guests_status(self):
        self.guest.type("exit 5")
        expect_same(self.guest.finish(200), 5)

    def left(self):
        """What is there of the last jail"""
        found = [path for path in (f"{OUT}/api", GROUPS / PARENT) if os.path.exists(path)]
        found += [pid for pid in (self.first, self.inox) if not is_gone(pid)]
        mounts = len(read("/proc/self/mountinfo").splitlines()) - self.mounts
        return found + ([f"{mounts} mounts"] if mounts else [])

    def leaves_nothing(self):
        lab.wait_until("nothing is left", 60, lambda: not self.left())

    def is_killed_and_leaves_nothing(self, victim):
        self.start()
        lab.wait_until("the API answers", 200, lambda: os.path.exists(f"{OUT}/api"))
        os.kill({"jail": self.outer, "first process": self.first, "inox": self.inox}[victim], signal.SIGKILL)
        expect(self.guest.finish(100) in (-signal.SIGKILL, 137), "the jail ends with another status")
        lab.wait_until(f"nothing is left but {self.left()}", 60, lambda: not self.left())

    def starts_again_after_all_that(self):
        """The assigned device is free"""
        self.boots_to_a_shell()
        self.reads_the_assigned_disk()
        self.ends_with_the_guests_status()
        self.leaves_nothing()


class Program:
    """As go-sdk and Kata do it: hard links into the root after the start, then the API's socket there"""

    def __init__(self, inox, kernel, initrd):
        self.exec_file = "/tmp/firecracker"
        shutil.copy(inox, self.exec_file)
        self.root = pathlib.Path(BASE, "firecracker/vm1/root")
        jailer = pathlib.Path("/tmp/jailer")
        jailer.symlink_to(inox)
        self.files = {"kernel": kernel, "initrd": initrd}
        self.console = "/tmp/console"
        self.command = [jailer, "--id", "vm1", "--exec-file", self.exec_file, "--uid", str(UID), "--gid", str(GID),
                        "--chroot-base-dir", BASE, "--netns", NETWORK, "--cgroup-version", "2",
                        "--parent-cgroup", PARENT, "--cgroup", "memory.max=700M", "--new-pid-ns", "--daemonize",
                        "--clean-up"]

    def boots_by_the_api(self):
        for name, path in self.files.items():
            shutil.copy(path, f"/tmp/{name}")
        done = lab.run(*self.command)
        expect(done.returncode == 0, f"status {done.returncode}: {done.stdout}")
        for name in self.files:
            os.link(f"/tmp/{name}", self.root / name)
        self.pid = int(lab.wait_until("there is a pid file", 60, lambda: read(self.root / "firecracker.pid")))
        socket = self.root / "run/firecracker.socket"
        lab.wait_until("there is a socket", 60, socket.exists)
        os.mkfifo(self.root / "log", 0o600)
        os.chown(self.root / "log", UID, GID)
        self.log = os.open(self.root / "log", os.O_RDONLY | os.O_NONBLOCK)
        self.api = lab.Api(str(socket))
        self.api.ask("PUT", "/logger", {"log_path": "log", "level": "Info"})
        self.api.ask("PUT", "/serial", {"serial_out_path": "/serial"})
        self.api.ask("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 256})
        self.api.ask("PUT", "/boot-source", {
            "kernel_image_path": "/kernel", "initrd_path": "/initrd",
            "boot_args": f"{CMDLINE} pci=off {lab.shell_words('echo booted in a jail; sleep 1000')}"})
        self.api.ask("PUT", "/network-interfaces/eth0", {"iface_id": "eth0", "host_dev_name": "tap0"})
        self.api.ask("PUT", "/actions", {"action_type": "InstanceStart"})

    def has_the_jailers_files(self):
        for path in ("dev/kvm", "dev/net/tun", "dev/urandom"):
            expect_same(((self.root / path).stat().st_uid, (self.root / path).stat().st_mode), (UID, 0o020600))
        expect_same(status(self.pid, "NStgid"), [str(self.pid), "1"])
        expect_same(read(f"/proc/{self.pid}/comm").strip(), "firecracker")
        expect_same(status(self.pid, "Uid"), [str(UID)] * 4)

    def has_its_limits(self):
        group = GROUPS / PARENT / "vm1"
        expect_same((read(group / "memory.max").strip(), read(group / "cgroup.procs").split()),
                    (str(700 << 20), [str(self.pid), *map(str, children(self.pid))]))  # the child opens files for it

    def says_what_the_guest_says(self):
        lab.wait_until("the guest says it", 300, lambda: "booted in a jail" in read(self.root / "serial"))
        expect(b"Running Firecracker" not in os.read(self.log, 1 << 16), "the log starts before it is asked for")

    def is_killed_and_leaves_nothing(self):
        os.kill(self.pid, signal.SIGKILL)
        lab.wait_until("nothing is left", 60,
                       lambda: not os.path.exists(f"{BASE}/firecracker/vm1") and not (GROUPS / PARENT).exists())
        expect(is_gone(self.pid), "the program is still there")
        keepers = subprocess.run(["pgrep", "-x", "inox-keeper"], capture_output=True, text=True).stdout.split()
        expect_same(keepers, [])


lab.main(outside, inside)
