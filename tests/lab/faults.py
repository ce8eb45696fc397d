# SPDX-License-Identifier: Apache-2.0
"""Faults of a host, a guest that meets them, and a look at whether its control API answers meanwhile."""
import fcntl, http.client, json, os, pathlib, re, signal, socket, struct, subprocess, threading, time
import lab
from lab import Guest, expect, read

GROUPS = pathlib.Path("/sys/fs/cgroup")
WORK = pathlib.Path("/tmp/faults")
SMALL, SHARED, SOCKET, VSOCK = WORK / "small", WORK / "shared", f"{WORK}/api", f"{WORK}/vsock"
HOST, GUEST, PORT = "192.0.2.1", "192.0.2.2", 2222
FIRST_BAD = 4   # MiB of the NVMe disk that can be read
PATIENCE = 5    # seconds within which the API answers, on the busy CPU of the lab
MIB = 1 << 20


def in_group(name, *command):
    """A command that is alone in a control group."""
    (GROUPS / name).mkdir(exist_ok=True)
    return ["sh", "-c", f'echo $$ >{GROUPS / name}/cgroup.procs && exec "$@"', "sh", *command]


def processes(*names, parent=None):
    """Those with such a name, or with such a word on their command line."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if {read(path / "comm").strip(), *read(path / "cmdline").split("\0")}.isdisjoint(names):
                continue
            if parent is None or f"PPid:\t{parent}\n" in read(path / "status"):
                found.append(int(path.name))
        except ProcessLookupError:
            pass
    return found


def passts():
    """On a CPU with AVX2 it starts another program of its own."""
    return processes("passt", "passt.avx2")


def kill(pids):
    """They may have ended by themselves."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def set_error_recovery(controller, bits):
    """NVMe's feature 5 of namespace 1. With bit 16, reading a block that was never written is an error."""
    command = struct.pack("<BBHI16xQIIIIIIIIII", 9, 0, 0, 1, 0, 0, 0, 5, bits, 0, 0, 0, 0, 0, 0)
    with open(controller, "rb") as file:
        fcntl.ioctl(file, 0xC0484E41, bytearray(command))


def forget_pages():
    """What the host's page cache knows of disks."""
    lab.output("sync")
    lab.write("/proc/sys/vm/drop_caches", "3")


def digest(path, size):
    """Of a file's start."""
    return lab.output("sh", "-c", f"head -c {size} {path} | sha256sum").split()[0]


class Answers:
    """While it is entered, the API is asked for its status ten times a second. `limit`: seconds for an answer."""

    def __init__(self, socket, about, limit):
        self.api, self.about, self.limit, self.times, self.wrong = lab.Api(socket), about, limit, [], []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.ask, daemon=True)

    def ask(self):
        while not self.over.wait(0.1):
            begin = time.monotonic()
            try:
                state = json.loads(self.api.ask("GET", "/inox/status", status=200))["state"]
                self.wrong += [state] if state != "Running" else []
            except (lab.Failed, OSError, http.client.HTTPException) as error:
                self.wrong.append(str(error))
            self.times.append(time.monotonic() - begin)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.over.set()
        self.thread.join(60)
        worst = max(self.times, default=0)
        lab.note(f"{self.about}: {len(self.times)} answers of the API, the slowest after {worst * 1000:.0f} ms")
        if kind is None:
            expect(self.times and not self.wrong, f"the API says {self.wrong[:3]} to {len(self.times)} requests")
            expect(worst < self.limit, f"the API answered after {worst:.1f} s")


class FaultyHost:
    """A guest with Linux, and what is asked of it again and again."""

    def __init__(self, inox, kernel, initrd, talk):
        self.inox, self.talk = inox, talk
        self.full, self.room = SMALL / "full", SMALL / "room"
        self.room.write_bytes(b"x" * (2 * MIB))
        lab.write(self.full, "")
        os.truncate(self.full, 32 * MIB)
        for name in ("good", "slow", "late"):
            lab.random_file(WORK / name, 4 * MIB)
        self.sum = lab.sha256(WORK / "good")
        config = WORK / "config.json"
        lab.write(config, json.dumps({
            "boot-source": {"kernel_image_path": kernel, "initrd_path": initrd,
                            "boot_args": "console=ttyS0 quiet loglevel=1 panic=-1 net.ifnames=0"},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 256},
            "drives": [{"drive_id": "full", "path_on_host": str(self.full), "is_root_device": False},
                       {"drive_id": "good", "path_on_host": str(WORK / "good"), "is_root_device": False},
                       {"drive_id": "slow", "path_on_host": str(WORK / "slow"), "is_root_device": False,
                        "rate_limiter": {"bandwidth": {"size": MIB // 2, "refill_time": 1000}}},
                       {"drive_id": "bad", "path_on_host": "/dev/nvme0n1", "is_root_device": False}],
            "network-interfaces": [{"iface_id": "tap", "host_dev_name": "tap0"},
                                   {"iface_id": "user", "user": True, "forward": [f"{PORT}:22"]}],
            "vsock": {"guest_cid": 3, "uds_path": VSOCK},
            "shares": [{"tag": "shared", "path": str(SHARED)}],
            "inox": {"allow": ["/dev/nvme0n1", "/dev/nvme1n1", str(WORK / "late")], "fail_on": ["kernel"],
                     "quiet_for": "900s", "timeout": "1300s"}}))
        self.guest = Guest(*in_group("faults", inox, "run", "--config", str(config), "--api-sock", SOCKET,
                                     "--id", "faults"))
        self.api = lab.Api(SOCKET)

    def boots_to_a_shell(self):
        self.guest.enter_shell()
        self.guest.ask("mkdir -p /work && mount -t virtiofs shared /work && cp /work/talk /tmp/talk")
        self.guest.ask(f"ip link set eth0 up && ip address add {GUEST}/24 dev eth0")
        self.guest.ask("ip link set eth1 up && ip address add 10.0.2.15/24 dev eth1 &&"
                       " ip route add default via 10.0.2.2")
        self.guest.ask("( while nc -l -p 22 -e echo forwarded 2>/dev/null; do :; done & )")
        self.guest.says("fullgoodslowbad", "cat /sys/block/vd[abcd]/serial")
        self.guest.ask("head -c 1048576 /dev/urandom >/tmp/pattern")
        self.pattern = self.guest.ask("sha256sum </tmp/pattern")
        self.guest.ask("( while read up rest </proc/uptime; do echo $up; usleep 100000; done >>/tmp/beats & )")
        self.listen()
        self.forwards()
        self.others_work()

    def fault(self, about, limit=PATIENCE):
        """Begins one: the log is looked at from here on."""
        self.heard = len(self.guest.errors())
        return Answers(SOCKET, about, limit)

    def others_work(self, but=""):
        """The devices, without those whose turn it is to fail."""
        lines = {"disk": f"dd if=/dev/vdb bs=1M iflag=direct 2>/dev/null | sha256sum | grep -q {self.sum}",
                 "tap": f"ping -c 1 -W 10 {HOST} >/dev/null", "share": "cmp /work/talk /tmp/talk",
                 "vsock": "/tmp/talk to vsock:2:6000 check 65536 >/dev/null"}
        for name, line in lines.items():
            if name not in but.split():
                self.guest.ask(line)

    def logs(self, pattern, seconds=30):
        lab.wait_until(f"the log has '{pattern}'", seconds,
                       lambda: re.search(pattern, self.guest.errors()[self.heard:]))

    def is_shown(self, name, device, least, most=10**9):
        """A metric, and the guest's state."""
        values = json.loads(lab.output(self.inox, "ctl", "-s", SOCKET, "--json", "metrics"))
        found = [float(one["value"]) for one in values
                 if name in one["name"] and device in one.get("labels", {}).values()]
        expect(len(found) == 1 and least <= found[0] <= most, f"{name} of {device} is {found}")
        lab.expect_match("Running", lab.output(self.inox, "ctl", "faults", "status"))

    def pause(self):
        """The guest's longest, in seconds, since this was asked last."""
        return float(self.guest.ask("""awk 'NR > 1 && $1 - last > most { most = $1 - last } { last = $1 }
            END { print most + 0 }' /tmp/beats; : >/tmp/beats"""))

    def fails(self, line):
        """With an I/O error, and soon."""
        begin = time.monotonic()
        seen = self.guest.ask(f"{{ {line}; }} >/dev/null 2>/tmp/err && echo it works || cat /tmp/err")
        expect(re.search("I/O error|Input/output error", seen), f"'{line}' said '{seen}'")
        expect(time.monotonic() - begin < 30, f"'{line}' took {time.monotonic() - begin:.0f} s")

    def in_background(self, line):
        """In the guest; /tmp/done has its status afterwards."""
        self.guest.ask(f"rm -f /tmp/done; ( {{ {line}; echo $? >/tmp/status; mv /tmp/status /tmp/done; }} & )")

    def is_done(self, status="0", seconds=60):
        self.guest.says(status, "until [ -e /tmp/done ]; do usleep 50000; done; cat /tmp/done", seconds)

    def is_under_way(self):
        self.guest.says("still", "sleep 1; [ -e /tmp/done ] || echo still")

    def listen(self):
        self.listener = subprocess.Popen([self.talk, "serve", f"unix:{VSOCK}_6000"], start_new_session=True)
        lab.wait_until("it listens", 60, lambda: os.path.exists(f"{VSOCK}_6000"))

    def forwards(self, seconds=60):
        """By passt, to a server in the guest; the client speaks first, for Debian 12's passt wants it so."""
        def answers():
            try:
                with socket.create_connection(("127.0.0.1", PORT), 5) as client:
                    client.settimeout(5)
                    client.sendall(b"hello\n")
                    return client.makefile().readline() == "forwarded\n"
            except OSError:
                return False
        lab.wait_until("passt forwards", seconds, answers, 0.3)
