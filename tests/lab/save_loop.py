#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills at random moments of a save, on a disk with ext4: inox three times in each round, then the lab machine itself,
as if its power failed. Afterwards a snapshot of that name is whole, or there is none.

    save_loop.py INOX [ROUNDS [SEED]]
"""
import json, os, pathlib, random, signal, subprocess, sys, time
import lab
from lab import Guest

KILLS_OF_INOX = 3
MIB_WRITTEN = 24
DISK, SAVES = "/dev/nvme0n1", pathlib.Path("/tmp/saves")


def main():
    if sys.argv[1:2] == ["--inside"]:
        sys.stdout.reconfigure(line_buffering=True)
        return inside(**json.loads(sys.argv[2]))
    inox, rounds = os.path.realpath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
    print(f"{rounds} rounds with seed {seed}", flush=True)
    chance = random.Random(seed)
    work = lab.work_directory("save-loop")
    guest = lab.compiled(work / "touch", "tests/lab/touch.c", *lab.BARE)
    lab.write(work / "disk", "")
    os.truncate(work / "disk", 512 << 20)
    lab.output("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", work / "disk")
    seen = Seen()
    for turn in range(1, rounds + 2):   # the last one only looks at what the one before it has left
        Round(work, inox, guest, chance, seen, last=turn > rounds).go(turn)
    print(f"{seen.inox} kills of inox, {seen.machine} of the machine; {seen.whole} snapshots were whole, {seen.none} "
          f"had no name yet; {seen.problems} problems", flush=True)
    return 1 if seen.problems or not seen.whole or not seen.none else 0


class Seen:
    inox = machine = whole = none = problems = 0


class Round:
    def __init__(self, work, inox, guest, chance, seen, last):
        self.chance, self.seen, self.last = chance, seen, last
        facts = {"inox": inox, "guest": guest, "seed": chance.randrange(1 << 30), "only_look": last}
        self.machine = subprocess.Popen(
            [lab.ROOT / "tools/lab", "--nested", "--smp", "1", "--memory", "1024", "--timeout", "400", "--device",
             f"nvme={work / 'disk'}", "--", sys.executable, os.path.realpath(__file__), "--inside", json.dumps(facts)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def go(self, turn):
        begin, killed, typical = time.monotonic(), False, 1.0
        for line in self.machine.stdout:
            word, _, value = line.strip().partition(" ")
            if word in ("inox", "whole", "none"):
                setattr(self.seen, word, getattr(self.seen, word) + 1)
            elif word == "took":
                typical = float(value)
            elif word == "last":
                time.sleep(self.chance.uniform(0, 1.3 * typical))
                os.kill(self.qemu(), signal.SIGKILL)
                killed = True
                self.seen.machine += 1
            else:
                print(line.strip(), flush=True)
                self.seen.problems += word == "FAIL"
        status = self.machine.wait()
        if status not in ((0,) if self.last else (124, 125)) or killed == self.last:
            print(f"FAIL round {turn} ended with status {status}", flush=True)
            self.seen.problems += 1
        print(f"round {turn}: {self.seen.whole} whole, {self.seen.none} without a name, {self.seen.problems} problems, "
              f"{time.monotonic() - begin:.0f} s", flush=True)

    def qemu(self):
        return lab.descendant(self.machine.pid, "qemu")


# --- in the lab ---


def inside(inox, guest, seed, only_look):
    chance = random.Random(seed)
    SAVES.mkdir()
    lab.output("mount", "-o", "commit=1", DISK, SAVES)
    look(inox)
    if only_look:
        lab.output("umount", SAVES)
        return 0
    lab.remove("/tmp/api")
    typical = kill_after(inox, guest, None)
    print("took", typical, flush=True)
    look(inox)
    for _ in range(KILLS_OF_INOX):
        kill_after(inox, guest, chance.uniform(0, 1.3 * typical))
        print("inox", flush=True)
        look(inox)
    kill_after(inox, guest, 60, "last")
    return 1


def kill_after(inox, guest, seconds, word=None):
    """Saves; kills inox that long after it began, or when it is done. How long the save took."""
    lab.remove("/tmp/api")
    run = Guest(inox, "run", "--kernel", guest, "--memory", "64M", "--api-sock", "/tmp/api", "--allow", str(SAVES))
    run.wait_for("ready\n", 60)
    run.type("x" * MIB_WRITTEN, end="")
    run.wait_for(f"touched {MIB_WRITTEN}\n", 60)
    if word:
        print(word, flush=True)
    begin = time.monotonic()
    asker = subprocess.Popen([inox, "ctl", "-s", "/tmp/api", "snapshot", SAVES / "snap"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    if seconds is None:
        if asker.wait(120):
            print("FAIL a save without a kill did not succeed", flush=True)
    else:
        time.sleep(seconds)
    took = time.monotonic() - begin
    run.kill()
    asker.wait(60)
    return took


def look(inox):
    """At what has the name; then it goes away, with what a killed save has left."""
    if (SAVES / "snap/state").exists():
        done = lab.run(inox, "snapshot", "verify", SAVES / "snap")
        print("whole" if done.returncode == 0 else f"FAIL {done.stdout}", flush=True)
    elif (SAVES / "snap").exists():
        print("none", flush=True)
    lab.output("rm", "-rf", SAVES / "snap")
    os.sync()


sys.exit(main())
