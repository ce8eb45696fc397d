#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills at random moments while a guest writes numbered sectors (tools/guest/disk_writer.c) and says after each flush
which number is safe. No number that it has said is lost, and nothing of a jail stays. Each round is one lab machine:
three times inox is killed in it, then the machine itself, as if its power failed; its disk is looked at from outside.

    kill_loop.py INOX [ROUNDS [SEED]]
With INOX_KILL_UNSAFE=1 the disk knows no flush, and the loop must find numbers that are lost: it then ends with status
1, and proves that it can fail.
"""
import json, os, pathlib, random, signal, struct, subprocess, sys, time
import lab
from lab import read

SECTOR, SECTORS = 512, 2048
MAGIC, FACTOR, MASK = 0x726F746365736E69, 0x9E3779B97F4A7C15, (1 << 64) - 1
KILLS_OF_INOX = 3
BASE, GROUPS = pathlib.Path("/tmp/jails"), pathlib.Path("/sys/fs/cgroup")
PARENT = "inox-kill"
DISK = "/dev/nvme0n1"


def lost(path, safe, thorough=True):
    """What the disk lacks of the numbers up to `safe`."""
    problems = []
    with open(path, "rb") as file:
        for place in range(SECTORS):
            words = struct.unpack("<64Q", file.read(SECTOR))
            wanted = safe - (safe - place) % SECTORS if safe >= place else 0
            if wanted <= 0:
                continue
            number = words[1]
            if words[0] != MAGIC or number < wanted or number % SECTORS != place:
                problems.append(f"sector {place} has number {number}, {wanted} is safe")
            elif any(words[k] != (number * 64 + k) * FACTOR & MASK for k in (range(2, 64) if thorough else (2, 63))):
                problems.append(f"sector {place} has number {number}, and not all that belongs to it")
    return problems


# --- outside ---


def main():
    if sys.argv[1:2] == ["--inside"]:
        sys.stdout.reconfigure(line_buffering=True)
        return inside(**json.loads(sys.argv[2]))
    inox, rounds = os.path.realpath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
    print(f"{rounds} rounds with seed {seed}", flush=True)
    chance = random.Random(seed)
    work = lab.work_directory("kill-loop")
    guest = lab.compiled(work / "writer", "tools/guest/disk_writer.c", *lab.BARE)
    image = work / "disk"
    lab.write(image, "")
    os.truncate(image, SECTOR * SECTORS)
    total = Total()
    for turn in range(1, rounds + 1):
        Round(work, image, inox, guest, chance, total).go(turn)
    print(f"{total.inox} kills of inox, {total.machine} of the machine, {total.safe} numbers were safe, "
          f"{len(total.problems)} problems", flush=True)
    return 1 if total.problems or not total.machine else 0


class Total:
    inox = machine = safe = 0

    def __init__(self):
        self.problems = []

    def add(self, problems):
        for problem in problems[:5]:
            print("FAIL", problem, flush=True)
        self.problems += problems


class Round:
    def __init__(self, work, image, inox, guest, chance, total):
        self.image, self.total, self.chance = image, total, chance
        facts = {"inox": inox, "guest": guest, "seed": chance.randrange(1 << 30), "safe": total.safe}
        self.machine = subprocess.Popen(
            [lab.ROOT / "tools/lab", "--nested", "--smp", "1", "--memory", "1024", "--timeout", "600", "--device",
             f"nvme={image}", "--", sys.executable, os.path.realpath(__file__), "--inside", json.dumps(facts)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def go(self, turn):
        begin, at = time.monotonic(), None
        for line in self.machine.stdout:
            word, _, value = line.strip().partition(" ")
            if word == "ack":
                self.total.safe = max(self.total.safe, int(value))
            elif word == "killed":
                self.total.inox += 1
            elif word == "FAIL":
                self.total.add([value])
            elif word == "last":
                at = time.monotonic() + self.chance.uniform(0.05, 4)
            if at and time.monotonic() > at:
                os.kill(self.qemu(), signal.SIGKILL)
                at = None
                self.total.machine += 1
        status = self.machine.wait()
        if at is not None or status not in (124, 125):     # the lab's words for a machine that ended by itself
            self.total.add([f"round {turn} ended with status {status}, and before its kill"])
        self.total.add(lost(self.image, self.total.safe))
        print(f"round {turn}: {self.total.safe} numbers are safe, {len(self.total.problems)} problems, "
              f"{time.monotonic() - begin:.0f} s", flush=True)

    def qemu(self):
        return lab.descendant(self.machine.pid, "qemu")


# --- in the lab ---


def inside(inox, guest, seed, safe):
    chance = random.Random(seed)
    BASE.mkdir()
    exec_file = pathlib.Path("/tmp/firecracker")
    lab.output("cp", inox, exec_file)
    mounts = len(read("/proc/self/mountinfo").splitlines())
    for turn in range(KILLS_OF_INOX + 1):
        last = turn == KILLS_OF_INOX
        process = start(exec_file, guest, f"vm{turn}")
        if last:
            print("last", flush=True)
        safe = relay(process, safe, None if last else time.monotonic() + chance.uniform(0.05, 3))
        process.kill()
        process.wait()
        print("killed", flush=True)
        for problem in lost(DISK, safe, thorough=False) + left(f"vm{turn}", mounts):
            print("FAIL", problem, flush=True)


def start(exec_file, guest, name):
    root = BASE / "firecracker" / name / "root"
    root.mkdir(parents=True)
    lab.output("cp", guest, root / "guest")
    config = {"boot-source": {"kernel_image_path": "/guest"}, "machine-config": {"vcpu_count": 1, "mem_size_mib": 32},
              "drives": [{"drive_id": "disk", "path_on_host": DISK, "is_root_device": False,
                          "cache_type": "Unsafe" if os.environ.get("INOX_KILL_UNSAFE") else "Writeback"}]}
    lab.write(root / "vm.json", json.dumps(config))
    os.chmod(root / "vm.json", 0o644)
    os.chmod(root / "guest", 0o644)
    return subprocess.Popen(
        [exec_file, "jail", "--id", name, "--exec-file", exec_file, "--uid", "3001", "--gid", "3001",
         "--chroot-base-dir", BASE, "--clean-up", "--netns", "new", "--cgroup-version", "2", "--parent-cgroup", PARENT,
         "--cgroup", "pids.max=50", "--device", DISK, "--", "--config-file", "/vm.json", "--level", "Error"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def relay(process, safe, until):
    """Passes on what the guest says, until that time after its first promise; the last number that is safe."""
    begun = False
    for line in process.stdout:
        word, _, value = line.strip().partition(" ")
        if word == "ack" and value.isdigit():
            print(line.strip(), flush=True)
            safe, begun = int(value), True
        elif word == "begin":
            if int(value) < safe:
                print(f"FAIL the guest finds number {value}, {safe} is safe", flush=True)
        elif line.strip() and "safe" not in line:
            print(f"NOTE {line.strip()}", flush=True)
        if begun and until is not None and time.monotonic() > until:
            break
    return safe


def left(name, mounts):
    """Of a killed jail; its keeper needs a moment."""
    limit = time.monotonic() + 60
    while (found := seen(name, mounts)) and time.monotonic() < limit:
        time.sleep(0.02)
    return found


def seen(name, mounts):
    found = [f"{place} is left" for place in (BASE / "firecracker" / name, GROUPS / PARENT) if place.exists()]
    if len(read("/proc/self/mountinfo").splitlines()) != mounts:
        found.append("a mount is left")
    names = {read(f"/proc/{pid}/comm").strip() for pid in os.listdir("/proc") if pid.isdigit()}
    return found + [f"a process {one} is left" for one in names & {"firecracker", "inox-keeper"}]


sys.exit(main())
