#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A bare guest that counts its timer's interrupts moves between processes, forth and back: no number is lost, and none
comes twice. The stream breaks, or the other side does, at each message: the guest runs on, once.

    move.py INOX GUESTS
"""
import json, os, socket, struct, threading, time
from guest import GUESTS, WORK, Run, check, in_order, run_all

TURNS = int(os.environ.get("INOX_MOVE_TURNS", "10"))
HELLO, READY, PAGES, ZEROS, STATE, LOADED, GO, RUNNING, REFUSED = range(1, 10)


def incoming(number, *more):
    path = WORK / f"move{number}"
    path.unlink(missing_ok=True)
    run = Run("--incoming", f"unix:{path}", *more, name=f"api{number}")
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return run, path


def forth_and_back():
    run = Run("--kernel", GUESTS / "ticks", "--memory", "32M", name="api0")
    numbers = run.numbers(3)
    downtimes = []
    for turn in range(1, TURNS + 1):
        other, path = incoming(1 if turn % 2 else 2)
        moved = run.ctl("move", f"unix:{path}", "--json")
        check(f"turn {turn}: the guest moves", moved.returncode == 0, moved.stderr + other.said())
        if moved.returncode:
            raise SystemExit(1)
        downtimes.append(json.loads(moved.stdout)["downtime_ms"])
        numbers += run.rest()
        check(f"turn {turn}: its old process ends well", run.process.wait() == 0, run.said())
        run = other
        numbers += run.numbers(3)
        check(f"turn {turn}: no number is lost or comes twice", in_order(numbers), numbers)
    print(f"NOTE the guest stood still for {sorted(downtimes)} ms")
    run.kill()


class Peer:
    """The other side, as far as it plays along."""

    def __init__(self, number, last):
        self.path, self.last = WORK / f"peer{number}", last
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.seen = []
        self.thread = threading.Thread(target=self.play)
        self.thread.start()

    def take(self, count):
        data = b""
        while len(data) < count:
            part = self.stream.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def tell(self, type, data=b""):
        self.stream.sendall(struct.pack("<IIQ", 0x4d584e49, type, len(data)) + data)

    def play(self):
        self.stream, _ = self.listener.accept()
        self.listener.close()
        try:
            while True:
                magic, type, size = struct.unpack("<IIQ", self.take(16))
                self.take(size)
                self.seen.append(type)
                if type == self.last:
                    break
                if type == HELLO:
                    self.tell(READY)
                elif type == STATE:
                    self.tell(LOADED)
        except (EOFError, OSError):
            pass
        self.after()
        self.stream.close()

    def after(self):
        pass


class Hostile(Peer):
    def __init__(self, number, last, answer):
        self.answer = answer
        super().__init__(number, last)

    def after(self):
        try:
            self.stream.sendall(self.answer)
            time.sleep(0.3)
        except OSError:
            pass


def breaks():
    run = Run("--kernel", GUESTS / "ticks", "--memory", "32M", name="api0")
    numbers = run.numbers(3)
    head = lambda type, size=0: struct.pack("<IIQ", 0x4d584e49, type, size)
    peers = [("breaks after message %d" % last, lambda n, last=last: Peer(n, last)) for last in (HELLO, PAGES, STATE)]
    for name, answer in (("says nonsense", b"x" * 16), ("says loaded at once", head(LOADED)),
                         ("says what is too long", head(REFUSED, 1 << 40)),
                         ("refuses", head(REFUSED, 2) + b"no"), ("says half a message", head(READY)[:7])):
        for last in (HELLO, STATE):
            if name != "says loaded at once" or last != STATE:
                peers.append((f"{name} after message {last}", lambda n, l=last, a=answer: Hostile(n, l, a)))
    for number, (name, make) in enumerate(peers):
        peer = make(number)
        moved = run.ctl("move", f"unix:{peer.path}")
        peer.thread.join()
        check(f"the other side {name}: the guest does not move", moved.returncode != 0, moved.stdout)
        check(f"the other side {name}: it runs on", run.state() == "Running", run.state())
        numbers += run.numbers(3)
    check("no number is lost or comes twice", in_order(numbers), numbers)
    moved = run.ctl("move", f"unix:{WORK}/nobody")
    check("nobody listens: the guest does not move", moved.returncode != 0 and run.state() == "Running", moved.stderr)
    moved = run.ctl("move", "unix:/var/inox-not-allowed")
    check("nothing is opened where nobody allowed it", "not_allowed" in moved.stderr, moved.stderr)
    peer = Peer("go", GO)
    moved = run.ctl("move", f"unix:{peer.path}")
    peer.thread.join()
    check("after the word that hands it over the guest stays paused", moved.returncode != 0 and
          "resume" in moved.stderr and run.state() == "Paused", moved.stderr)
    again = run.ctl("move", f"unix:{WORK}/nobody")
    check("and is not moved again", "in_use" in again.stderr, again.stderr)
    check("until it is told", run.ctl("resume").returncode == 0 and run.state() == "Running", run.state())
    numbers += run.numbers(5)
    check("and has lost nothing", in_order(numbers), numbers)
    peer = Peer("end", GO)
    run.ctl("move", f"unix:{peer.path}")
    peer.thread.join()
    check("or is ended", run.ctl("end").returncode == 0 and run.process.wait() == 0, run.said())


def dying_destination():
    """Whenever it is killed, the guest runs at one place."""
    run = Run("--kernel", GUESTS / "ticks", "--memory", "32M", name="api0")
    numbers = run.numbers(3)
    for turn in range(8):
        other, path = incoming(1)
        killer = threading.Timer(0.01 * turn, other.process.kill)
        killer.start()
        moved = run.ctl("move", f"unix:{path}")
        killer.join()
        if moved.returncode == 0:
            print("NOTE it had moved")
            return run.kill()
        other.process.wait()
        if run.state() == "Paused":
            check(f"turn {turn}: a paused one waits to be told", run.ctl("resume").returncode == 0)
        check(f"turn {turn}: it runs on", run.state() == "Running", run.state())
        numbers += run.numbers(3)
    check("a destination that dies loses no number", in_order(numbers), numbers)
    run.kill()


run_all(forth_and_back, breaks, dying_destination)
