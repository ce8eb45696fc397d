# SPDX-License-Identifier: Apache-2.0
"""What the scripts of this folder share: SCRIPT INOX GUESTS counts its checks, and works in a folder that goes away."""
import json, os, pathlib, subprocess, sys, tempfile

INOX, GUESTS = os.path.realpath(sys.argv[1]), pathlib.Path(sys.argv[2])
WORK = pathlib.Path(tempfile.mkdtemp(prefix=f"inox-{pathlib.Path(sys.argv[0]).stem}."))
failures = 0


def check(name, good, seen=""):
    global failures
    print(("PASS " if good else "FAIL ") + name + ("" if good else f": {seen}"), flush=True)
    failures += not good


def inox(*words, **more):
    return subprocess.run([INOX, *map(str, words)], capture_output=True, text=True, timeout=120, **more)


def run_all(*parts):
    """Ends the script."""
    try:
        for part in parts:
            part()
    finally:
        subprocess.run(["rm", "-rf", WORK])
    sys.exit(1 if failures else 0)


def in_order(numbers, first=None):
    """One after the other, without a gap; from `first` on, if that is given."""
    first = numbers[0] if first is None else first
    return numbers == list(range(first, first + len(numbers)))


class Run:
    """A guest whose lines are numbers."""
    limit = "200s"

    def __init__(self, *words, name="api"):
        self.socket = WORK / name
        self.socket.unlink(missing_ok=True)
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([INOX, "run", "--api-sock", self.socket, "--allow", WORK, "--timeout",
                                         self.limit, *map(str, words)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def numbers(self, count):
        lines = [self.process.stdout.readline().strip() for _ in range(count)]
        try:
            return [int(line, 16) for line in lines]
        except ValueError:
            raise SystemExit(f"FAIL the guest said {lines}: {self.said()}")

    def rest(self):
        """All numbers until it ends."""
        return [int(line, 16) for line in self.process.stdout.read().split() if len(line) == 8]

    def ctl(self, *words):
        return inox("ctl", "-s", self.socket, *words)

    def state(self):
        return json.loads(self.ctl("status", "--json").stdout)["state"]

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """All numbers that came before."""
        self.process.kill()
        rest = self.rest()
        self.process.wait()
        return rest

    def save(self, folder):
        """Paused, so that what is printed before is all there is."""
        for words in (["pause"], ["snapshot", folder]):
            done = self.ctl(*words)
            if done.returncode:
                raise SystemExit(f"FAIL {words}: {done.stderr}")
