#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest that attacks its machine (tests/kvm/guests/hostile.c), with every kind of device, on both transports. Beside
it: the API answers, memory, descriptors and log lines stay within bounds, files that are not the guest's stay as they
are, and the run has an end that a guest can cause.

    hostile_guest.py INOX GUEST                 the fixed seeds
    hostile_guest.py INOX GUEST SECONDS [SEED]  random seeds for so long, or one seed again; a failure names its seed

INOX_HOSTILE_STEPS changes the length of a run; with INOX_HOSTILE_KEEP its folder stays.
"""
import hashlib, json, os, pathlib, random, re, shutil, signal, socket, statistics, subprocess, sys, tempfile
import threading, time

MIB = 1 << 20
MEMORY = 64  # MiB
SEEDS = range(1, 7)
STRIDE = 2 * len(SEEDS)  # so many runs reach each port once
# What a guest can cause (docs/exit-codes.md); 42 is its own, and 3 its fault at an instruction that a device wrote to.
DONE, OWN_FAULT = 42, 3
CRASHES = {OWN_FAULT, 124, 131, 132, 133, 134, 135}
ENDS = CRASHES | {DONE, 0, 147}
VERDICTS = {"timed_out", "guest_triple_fault", "guest_halted", "guest_emulation_failure", "guest_entry_failed",
            "guest_panic", "guest_root"}
LOOKS = ["/inox/status", "/inox/pasids", "/inox/devices", "/inox/pasids", "/inox/irqs", "/inox/pasids", "/inox/exits",
         "/inox/pasids", "/inox/iommu", "/inox/metrics", "/vm/config", "/balloon/statistics"]
# What all runs together must have brought about: else they attack nothing but the rules at the door
REACHED = {"block.read_count", "block.write_count", "block.flush_count", "block.discard_count", "net.tx_packets_count",
           "net.rx_packets_count", "vsock.queue_event_count", "entropy.entropy_bytes", "balloon.released_bytes",
           "console.irq_trigger_count", "share.irq_trigger_count", "iommu.attach_requests", "iommu.map_requests",
           "iommu.faults", "pasid.submissions"}
# A sanitizer looks for leaks with ptrace, which a confined process refuses
ENVIRONMENT = os.environ | {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_leaks=0")}
# With a tap, in a network that ends with the process
IN_A_NETWORK = ["unshare", "-n", "sh", "-c",
                'ip tuntap add dev hostile0 mode tap multi_queue && ip link set dev hostile0 up && exec "$@"', "sh"]
LONGEST_ANSWER = 5  # seconds on a busy machine; the median is printed


class Peer:
    """A unix socket whose connections get back what they send, or nothing."""

    def __init__(self, path, echo):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        self.echo = echo
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer):
        with peer:
            peer.settimeout(30)
            try:
                while data := peer.recv(65536):
                    if self.echo:
                        peer.sendall(data)
            except OSError:
                pass


def ask(path, what, method="GET", body=None):
    """An answer of the API, and the seconds until it began."""
    text = "" if body is None else json.dumps(body)
    begun = time.monotonic()
    with socket.socket(socket.AF_UNIX) as api:
        api.settimeout(60)
        api.connect(str(path))
        api.sendall(f"{method} {what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
                    f"{text}".encode())
        answer = more = api.recv(65536)
        took = time.monotonic() - begun
        while more:
            answer += (more := api.recv(65536))
    return answer, took


def operator(chance, folder):
    """What an operator may ask for while the guest rages: method, path, body."""
    disk = f"/inox/devices/hot{chance.randrange(3)}"
    return chance.choice([
        [("PATCH", "/vm", {"state": "Paused"}), ("GET", "/inox/status", None), ("PATCH", "/vm", {"state": "Resumed"})],
        [("PATCH", "/balloon", {"amount_mib": chance.randrange(MEMORY)})],
        [("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 1})],
        [("PATCH", f"/balloon/hinting/{chance.choice(['start', 'stop'])}", {})],
        [("PATCH", "/drives/rw", {"drive_id": "rw", "path_on_host": str(folder / chance.choice(["rw", "other"]))})],
        [("PATCH", "/drives/limited", {"drive_id": "limited", "rate_limiter": {
            "ops": {"size": chance.randrange(1, 999), "refill_time": 100}}})],
        [("PUT", disk, {"disk": {"path_on_host": str(folder / "hot"), "is_read_only": True}})],
        [("DELETE", disk + chance.choice(["", "?force=true"]), None)],
        [("PUT", "/mmds", {"latest": {"a": "b" * chance.randrange(999)}})],
        [("PUT", "/inox/nmi", {})],
        [("PUT", "/inox/power-button", {})],
        [("PUT", "/actions", {"action_type": chance.choice(["SendCtrlAltDel", "FlushMetrics"])})]])


def processes(pid):
    """It and its children: shares have a process each."""
    found = [pid]
    for one in found:
        for task in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def measure(pid):
    """Resident KiB and open descriptors, of all its processes together."""
    resident = descriptors = 0
    for one in processes(pid):
        status = pathlib.Path(f"/proc/{one}/status").read_text()
        resident += int(re.search(r"^VmRSS:\s*(\d+)", status, re.M)[1]) if "VmRSS" in status else 0
        descriptors += len(os.listdir(f"/proc/{one}/fd"))
    return resident, descriptors


def snapshot(*paths):
    """Names, sizes and contents of files."""
    files = [one for path in paths for one in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return {one: hashlib.sha256(one.read_bytes()).hexdigest() if one.is_file() and not one.is_symlink() else None
            for one in files}


class Run:
    """One guest from its start to its end."""

    def __init__(self, inox, guest, seed, mmio, steps):
        self.inox, self.guest, self.seed, self.mmio, self.steps = inox, guest, seed, mmio, steps
        self.cpus = 1 + seed % 2
        self.last = (seed // 2 + mmio) % 2 != 0
        self.limit = 120
        self.problems = []
        self.chance = random.Random(seed)
        self.asked = {}
        self.reached = set()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="inox-hostile-"))
        self.words = f"seed {seed}, {'virtio-mmio' if mmio else 'PCI'}, {self.cpus} CPUs"

    def check(self, good, text):
        if not good:
            self.problems.append(text)

    def make_files(self):
        self.sizes = {"rw": 4 * MIB, "sync": 3 * MIB, "through": MIB, "limited": 2 * MIB, "ro": MIB + 512,
                      "temporary": 2 * MIB, "other": 4 * MIB, "hot": MIB}
        for name, size in self.sizes.items():
            (self.folder / name).write_bytes(random.Random(self.seed).randbytes(size))
        for name in ("share/dir", "shown", "outside", "tmp"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "outside/kept").write_text("kept")
        (self.folder / "shown/a").write_text("shown")
        (self.folder / "share/a").write_text("shared")
        (self.folder / "share/link").symlink_to(self.folder / "outside/kept")
        self.constant = [self.folder / one for one in ("ro", "temporary", "hot", "shown", "outside")]
        self.before = snapshot(*self.constant)
        self.peers = [Peer(self.folder / "net", True), Peer(self.folder / "mmds", False)]

    def config(self):
        drive = lambda name, **more: {"drive_id": name, "path_on_host": str(self.folder / name),
                                      "is_root_device": False, "is_read_only": False, **more}
        bucket = {"size": 4 * MIB, "refill_time": 100}
        line = (f"seed={self.seed} steps={self.steps} stride={STRIDE} memory={MEMORY} "
                f"cpus={self.cpus} mmio={self.mmio:d} last={self.last:d} hypercalls={not interprets():d}")
        config = {
            "boot-source": {"kernel_image_path": str(self.guest), "boot_args": line},
            "machine-config": {"vcpu_count": self.cpus, "mem_size_mib": MEMORY},
            "drives": [
                drive("rw", queues=4), drive("sync", io_engine="Sync"), drive("through", cache_type="Writethrough"),
                drive("limited", rate_limiter={"bandwidth": bucket, "ops": {"size": 500, "refill_time": 100}}),
                drive("ro", is_read_only=True), drive("temporary", temporary=True, cache_type="Unsafe")],
            "network-interfaces": [{"iface_id": name, "socket": str(self.folder / name)} for name in ("net", "mmds")],
            "mmds-config": {"network_interfaces": ["mmds"], "version": "V2"},
            "vsock": {"guest_cid": 3, "uds_path": str(self.folder / "vsock")},
            "entropy": {"rate_limiter": {"bandwidth": bucket}},
            "balloon": {"amount_mib": 4, "deflate_on_oom": True, "stats_polling_interval_s": 1,
                        "free_page_reporting": True, "free_page_hinting": True},
            "console": {"path": str(self.folder / "hvc")},
            "shares": [{"tag": "w", "path": str(self.folder / "share")},
                       {"tag": "r", "path": str(self.folder / "shown"), "read_only": True}],
            "logger": {"level": "Warning", "log_path": str(self.folder / "log")},
            "metrics": {"metrics_path": str(self.folder / "metrics")},
            "inox": {"allow": [str(self.folder)], "timeout": f"{self.limit}s", "exits": str(self.folder / "exits.json"),
                     "result": str(self.folder / "result.json")},
        }
        if not self.mmio:
            config |= {"iommu": {"max_domains": 64, "max_mappings": 1024}, "dsa": {"engines": 2},
                       "pasid": {"quota": 64}}
        if WORDS["tap"]:
            config["network-interfaces"].append({"iface_id": "tap", "host_dev_name": "hostile0", "queue_pairs": 2})
        self.devices = len(config["drives"]) + len(config["network-interfaces"]) + 6 + (not self.mmio)
        (self.folder / "config.json").write_text(json.dumps(config))

    def start(self):
        self.api = self.folder / "api"
        flags = ["--api-sock", self.api, "--config-file", self.folder / "config.json"]
        if not self.mmio:
            flags = ["run", "--api-sock", self.api, "--config", self.folder / "config.json"]
        with open(self.folder / "out", "wb") as out, open(self.folder / "err", "wb") as err:
            self.vmm = subprocess.Popen([*(IN_A_NETWORK if WORDS["tap"] else []), self.inox, *flags],
                                        stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                        env=ENVIRONMENT | {"TMPDIR": str(self.folder / "tmp")})

    def operate(self):
        """Asks for something now and then. The seconds that each answer took, and to what."""
        out = (self.folder / "out").read_bytes()
        up = b" functions" in out and (self.cpus == 1 or b"hostile: two CPUs" in out)
        answers = []
        for method, path, body in operator(self.chance, self.folder) if up and self.chance.random() < 0.3 else []:
            try:
                answer, took = ask(self.api, path, method, body)
            except TimeoutError:
                self.check(False, f"{method} {path} is not answered")
                break
            except OSError:  # it has ended
                break
            if answer:
                self.check(answer[9:10] in b"245", f"{method} {path} is answered with {answer[:60]}")
                answers.append((took, f"{method} {path}"))
                self.asked[answer[9:12].decode()] = self.asked.get(answer[9:12].decode(), 0) + 1
        return answers

    def watch(self):
        """Until the process is gone, which it must be soon after the guest's time is over."""
        answers, first, self.resident, self.descriptors = [], None, 0, 0
        end = time.monotonic() + self.limit + 60
        listens = False
        while self.vmm.poll() is None:
            if time.monotonic() > end:
                self.check(False, f"does not end: {self.limit} s are over")
                break
            if not listens and (self.folder / "vsock").exists():
                self.peers.append(Peer(self.folder / "vsock_6000", True))
                listens = True
            try:
                now = measure(self.vmm.pid)
                path = LOOKS[len(answers) % len(LOOKS)] if first else LOOKS[0]
                answer, took = ask(self.api, path)
            except TimeoutError:
                self.check(False, "the API does not answer")
                break
            except (OSError, TypeError):  # not there yet, or no more
                time.sleep(0.01)
                continue
            if not first and b'"state":"Running"' not in answer.replace(b" ", b""):
                continue
            first = first or now
            answers.append((took, f"GET {path}"))
            if re.search(rb'"submissions": ?[1-9]', answer):
                self.reached.add("pasid.submissions")
            answers += self.operate()
            self.resident = max(self.resident, now[0] - first[0])
            self.descriptors = max(self.descriptors, now[1] - first[1])
            time.sleep(0.05)
        if self.vmm.poll() is None:
            self.vmm.kill()
        self.vmm.wait()
        self.check(len(answers) >= 3, f"the API answered {len(answers)} times")
        longest, path = max(answers, default=(0, ""))
        self.answers = [took for took, _ in answers]
        self.longest = f"at most {longest * 1000:.0f} ({path})"
        self.check(longest < LONGEST_ANSWER, f"the answer to {path} took {longest:.1f} s")
        room = MEMORY + 16 + 400 * sanitized(self.inox)
        self.check(self.resident < room * 1024, f"grew by {self.resident} KiB, with {MEMORY} MiB of memory")
        # At most 3 for each connection of vsock and 1 for each file that the share's guest knows
        self.check(self.descriptors < 600, f"has {self.descriptors} more descriptors")

    def judge(self):
        read = lambda name: (self.folder / name).read_text(errors="replace") if (self.folder / name).exists() else ""
        self.code, error, log, self.out = self.vmm.returncode, read("err"), read("log"), read("out")
        self.said = error + log
        self.check(self.code in ENDS, f"ended with {self.code}")
        names = set(re.findall(r"^inox: error: .*\[([a-z_]+)\]$", error, re.M))
        self.check(names <= VERDICTS, f"ended with {names - VERDICTS}")
        self.lines = self.said.count("\n")
        # A throttle lets 5 lines a second through; a device has two at most, and the machine has some
        most = 5 * (2 * self.devices + 10) * (self.took + 2)
        self.check(self.lines < most, f"wrote {self.lines} lines in {self.took:.1f} s")
        self.check("ERROR: " not in error and "runtime error" not in error, "a sanitizer found something")
        self.check(f"hostile: {self.devices} virtio devices" in self.out, "the guest does not find its devices")
        self.check(self.cpus == 1 or "hostile: two CPUs" in self.out, "the second CPU does not start")
        self.done = "hostile: done" in self.out
        self.check(self.done or self.code in CRASHES, f"is not done, but ends with {self.code}")
        self.total = json.loads(read("exits.json") or '{"total": 0}')["total"]
        for part, numbers in json.loads((read("metrics").splitlines() or ["{}"])[-1]).items():
            if isinstance(numbers, dict):
                self.reached |= {f"{part}.{name}" for name, number in numbers.items() if number}

    def look_at_files(self):
        self.check(snapshot(*self.constant) == self.before, "changed a file that is not its own")
        for name, size in self.sizes.items():
            self.check((self.folder / name).stat().st_size == size, f"the size of {name} changed")
        self.check(not os.listdir(self.folder / "tmp"), f"left {os.listdir(self.folder / 'tmp')} in its TMPDIR")
        self.check(not os.path.lexists("/tmp/hostile-escaped"), "wrote beside its share")
        expected = {*self.sizes, "share", "shown", "outside", "tmp", "net", "mmds", "config.json", "exits.json", "hvc",
                    "result.json", "log", "metrics", "out", "err", "vsock_6000"}
        self.check(set(os.listdir(self.folder)) <= expected, f"left {set(os.listdir(self.folder)) - expected}")

    def whole(self):
        self.make_files()
        self.config()
        begun = time.monotonic()
        self.start()
        self.watch()
        self.took = time.monotonic() - begun
        self.judge()
        self.look_at_files()
        for peer in self.peers:
            peer.listener.close()
        median = statistics.median(self.answers or [0]) * 1000
        print(f"{self.words}: code {self.code}{'' if self.done else ', not done'}, {self.took:.1f} s, "
              f"{self.total} exits, {self.resident} KiB and {self.descriptors} descriptors more, {self.lines} lines, "
              f"{len(self.answers)} answers of {median:.1f} ms, {self.longest}", flush=True)
        if self.problems:
            print(f"FAILED: {self.words}: {'; '.join(self.problems)}\n  kept: {self.folder}\n{self.said[-3000:]}")
        elif "INOX_HOSTILE_KEEP" not in os.environ:
            shutil.rmtree(self.folder)
        return not self.problems


def interprets():
    """Whether this host's KVM interprets guests' code."""
    return WORDS["interprets"]


def sanitized(program):
    return b"__asan_init" in pathlib.Path(program).read_bytes() or b"__tsan_init" in pathlib.Path(program).read_bytes()


WORDS = {}


def main():
    inox, guest = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    report = subprocess.run([inox, "host"], capture_output=True, text=True, check=False).stdout
    WORDS["interprets"] = "interprets guest code" in report
    WORDS["tap"] = subprocess.run([*IN_A_NETWORK, "true"], capture_output=True, check=False).returncode == 0
    if not WORDS["tap"]:
        print("without a tap: this user may not make one in a network of its own")
    steps = int(os.environ.get("INOX_HOSTILE_STEPS", 100))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    runs = []
    if len(sys.argv) > 3:
        end = time.monotonic() + int(sys.argv[3])
        while time.monotonic() < end:
            seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.SystemRandom().randrange(10**9)
            for mmio in (False, True):
                runs.append(Run(inox, guest, seed, mmio, steps))
                if not runs[-1].whole():
                    sys.exit(f"repeat: tools/dev hostile 1 {seed}")
            if len(sys.argv) > 4:
                break
    else:
        runs = [Run(inox, guest, seed, mmio, steps) for seed in SEEDS for mmio in (False, True)]
        good = [run.whole() for run in runs]
        if not all(good):
            sys.exit(1)
    answers = [one for run in runs for one in run.answers]
    done = sum(run.done for run in runs)
    asked = [sum(run.asked.get(status, 0) for run in runs) for status in ("200", "204", "400")]
    print(f"{len(runs)} runs, {done} got to their end, {sum(run.total for run in runs)} exits, answers of "
          f"{statistics.median(answers) * 1000:.1f} ms, at most {max(answers) * 1000:.0f}; {asked[0] + asked[1]} "
          f"requests granted, {asked[2]} refused")
    if done * 4 < len(runs) * 3:
        sys.exit("too many runs ended before they were done")
    if missing := REACHED.difference(*(run.reached for run in runs)):
        print(f"not reached: {', '.join(sorted(missing))}")
        if len(runs) >= 2 * len(SEEDS):
            sys.exit(1)


main()
