#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A template and its clones, with a bare guest that counts its timer's interrupts: each goes on where it was saved, in
a process of its own that sees nothing of the others; what it costs does not grow with their number.

    template.py INOX GUESTS
"""
import json, os, pathlib, re, signal, subprocess, sys, tempfile, time
from guest import GUESTS, INOX, WORK, check, inox, run_all

CLI = pathlib.Path(__file__).resolve().parent.parent / "cli"
CLONES = int(os.environ.get("INOX_TEMPLATE_CLONES", "24"))
os.environ["XDG_RUNTIME_DIR"] = str(WORK)
CLONES_PATH = WORK / "clones"


def until(good, seconds=30):
    end = time.monotonic() + seconds
    while not good():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def alive(pid):
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


def save(folder, *words):
    """A guest that counts, stopped in the middle. Its last number."""
    process = subprocess.Popen([INOX, "run", "--kernel", GUESTS / "ticks", "--memory", "32M", "--api-sock",
                                WORK / "api", "--allow", WORK, *map(str, words)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(10)]
    for request in (["pause"], ["snapshot", folder]):
        done = inox("ctl", "-s", WORK / "api", *request)
        if done.returncode:
            raise SystemExit(f"FAIL {request}: {done.stderr} {lines}")
    process.kill()
    lines += process.stdout.read().split()
    process.wait()
    return [int(line, 16) for line in lines if len(line.strip()) == 8][-1]


class Template:
    def __init__(self, *words):
        self.socket = WORK / "template"
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([INOX, "template", *map(str, words), "--api-sock", self.socket],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors)
        if not until(lambda: self.ask("status").returncode == 0 or self.process.poll() is not None):
            raise SystemExit("FAIL the template does not answer")
        if self.process.poll() is not None:
            self.errors.seek(0)
            raise SystemExit(f"FAIL the template has ended: {self.errors.read()}")

    def ask(self, *words, **more):
        return inox("ctl", "-s", self.socket, *words, **more)

    def spawn(self, *words, **more):
        done = self.ask("spawn", "--json", *words, **more)
        if done.returncode:
            self.errors.seek(0)
            raise SystemExit(f"FAIL spawn {words}: {done.stderr}{self.errors.read()}")
        return json.loads(done.stdout)["clones"]

    def events(self):
        """Those so far."""
        process = subprocess.Popen([INOX, "ctl", "-s", self.socket, "--json", "events"], stdout=subprocess.PIPE,
                                   text=True)
        time.sleep(0.5)
        process.kill()
        return [json.loads(line) for line in process.stdout.read().splitlines()]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


def field(pid, file, name):
    found = re.search(rf"^{name}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/{file}").read_text(), re.M)
    return int(found.group(1))


def cpu_ms(pid):
    """Of all threads of the process so far."""
    return sum(int(x.read_text().split()[0]) for x in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6


def numbers(log):
    return [int(line, 16) for line in log.read_text().split() if len(line) == 8]


def goes_on(name, log, last):
    until(lambda: log.exists() and len(numbers(log)) > 5)
    seen = numbers(log)
    check(f"{name} goes on where it was saved", len(seen) > 5 and seen == list(range(last + 1, last + 1 + len(seen))),
          (last, seen[:10]))


def lives(last):
    template = Template(WORK / "snap", "--allow", CLONES_PATH, "--id", "tmpl")
    check("it has one thread", len(os.listdir(f"/proc/{template.process.pid}/task")) == 1)
    one, = template.spawn("--id", "c1", "--serial-log", CLONES_PATH / "c1.log")
    check("spawn tells pid and time", alive(one["pid"]) and one["first_instruction_us"] > 0, one)
    goes_on("a clone", CLONES_PATH / "c1.log", last)
    several = template.spawn("--id", "c", "--count", 3, "--serial-log", CLONES_PATH / "log-{n}")
    check("several have numbers", [one["id"] for one in several] == ["c-1", "c-2", "c-3"], several)
    for n in (1, 2, 3):
        goes_on(f"number {n}", CLONES_PATH / f"log-{n}", last)
    ids = {one["id"]: one["pid"] for one in json.loads(inox("ps", "--json").stdout)}
    check("inox ps has them and the template", set(ids) == {"tmpl", "c1", "c-1", "c-2", "c-3"}, ids)
    check("each has a session of its own", len({os.getsid(pid) for pid in ids.values()}) == 5)
    state = json.loads(inox("ctl", "c1", "status", "--json").stdout)
    check("each has an API of its own", state["pid"] == one["pid"] and state["state"] == "Running", state)
    waiting, = template.spawn("--paused", "--api-sock", CLONES_PATH / "api")
    state = json.loads(inox("ctl", "-s", CLONES_PATH / "api", "status", "--json").stdout)
    check("a paused one waits", state["state"] == "Paused" and waiting["first_instruction_us"] is None, state)
    os.kill(one["pid"], signal.SIGKILL)
    os.kill(ids["c-1"], signal.SIGTERM)
    check("who dies is reaped", until(lambda: not alive(one["pid"]) and not alive(ids["c-1"])))
    ends = {event["pid"]: event for event in template.events() if event["event"] == "clone-ended"}
    check("and how it ended is told", ends[one["pid"]].get("signal") == 9 and ends[one["pid"]]["id"] == "c1" and
          ends[ids["c-1"]].get("exit_code", 0) > 128, ends)
    check("its id is free again", template.spawn("--id", "c1")[0]["id"] == "c1")
    done = template.ask("spawn", "--id", "c-2")
    check("an id that is taken is refused", "[in_use]" in done.stderr, done.stderr)
    done = template.ask("spawn", "--serial-log", WORK / "outside")
    check("what lies elsewhere is refused", "[not_allowed]" in done.stderr, done.stderr)
    check("the template ends well", template.end() == 0)
    left = [name for name in ("tmpl.lock", "tmpl.sock") if (WORK / "inox" / name).exists()]
    check("and leaves nothing", not left and not template.socket.exists(), left)
    check("and its clones go on", alive(ids["c-2"]) and inox("ctl", "c-2", "status").returncode == 0)
    for name in ("c1", "c-2", "c-3"):
        os.kill(json.loads(inox("ctl", name, "status", "--json").stdout)["pid"], signal.SIGKILL)
    os.kill(waiting["pid"], signal.SIGKILL)


def disks():
    """Each has its own, and cannot open the other's; one comes as a descriptor from where the template may not look."""
    for name in ("a", "b", "c"):
        (CLONES_PATH / name).write_bytes(bytes(1 << 20))
    (WORK / "elsewhere").write_bytes(bytes(1 << 20))
    save(WORK / "disk", "--disk", f"id=root,path={CLONES_PATH / 'a'}")
    # The lists of system calls are looked at by other tests; here it counts what the kernel says of files
    template = Template(WORK / "disk", "--allow", CLONES_PATH, "--seccomp", "off")
    first, = template.spawn("--id", "a")
    second, = template.spawn("--id", "b", "--disk", f"id=root,path={CLONES_PATH / 'b'}")
    done = template.ask("spawn", "--disk", f"id=root,path={CLONES_PATH / 'b'}")
    check("a disk that another clone writes is refused", "[in_use]" in done.stderr, done.stderr)
    done = template.ask("spawn", "--disk", f"id=root,path={WORK / 'elsewhere'}")
    check("a disk that lies elsewhere is refused", "[not_allowed]" in done.stderr, done.stderr)
    with open(WORK / "elsewhere", "r+b") as file:
        third, = template.spawn("--id", "c", "--disk", f"id=root,path=fd:{file.fileno()}", pass_fds=[file.fileno()])
    held = [os.readlink(one) for one in pathlib.Path(f"/proc/{third['pid']}/fd").iterdir()]
    check("a disk can be passed along", str(WORK / "elsewhere") in held, held)
    check("nobody holds another's", not any(str(CLONES_PATH / name) in held for name in ("a", "b")), held)
    done = inox("ctl", "b", "request", "PATCH", "/drives/root",
                json.dumps({"drive_id": "root", "path_on_host": str(CLONES_PATH / "a")}))
    check("its API opens no sibling's disk", "[not_allowed]" in done.stderr, done.stdout + done.stderr)
    seen = subprocess.run([sys.executable, CLI / "open_in.py", str(second["pid"]), str(os.O_RDWR), CLONES_PATH / "a",
                           CLONES_PATH / "b", CLONES_PATH / "c"], capture_output=True, text=True)
    landlock = "landlock" in pathlib.Path("/sys/kernel/security/lsm").read_text() if os.path.exists(
        "/sys/kernel/security/lsm") else False
    if seen.returncode or (not landlock and "EACCES" not in seen.stdout):
        print(f"skipped: whether the kernel lets it open one: {seen.stderr or 'no Landlock'}")
    else:
        loop = [line for line in seen.stdout.splitlines() if line.startswith("inox ")]
        check("nor does its process", loop and all(line.endswith("EACCES") for line in seen.stdout.splitlines()),
              seen.stdout)
    for one in (first, second, third):
        os.kill(one["pid"], signal.SIGKILL)
    template.end()


def costs():
    template = Template(WORK / "snap", "--allow", CLONES_PATH)
    made, cpu = [], []
    for n in range(CLONES):
        made += template.spawn("--paused", "--api-sock", CLONES_PATH / f"s{n}")
        cpu.append(cpu_ms(made[-1]["pid"]))
    dirty = [field(one["pid"], "smaps_rollup", "Private_Dirty") for one in made]
    check("a clone has at most 1 MiB of its own", max(dirty) <= 1024, dirty)
    print(f"NOTE private memory of {CLONES} clones: {min(dirty)} to {max(dirty)} KiB; the template has "
          f"{field(template.process.pid, 'smaps_rollup', 'Rss')} KiB in all")
    third = max(len(cpu) // 3, 1)
    first, last = sorted(cpu[:third])[third // 2], sorted(cpu[-third:])[third // 2]
    print(f"NOTE CPU time of a clone's process: {first:.2f} ms of the first ones, {last:.2f} ms of the last ones")
    check("the last ones cost what the first ones did", last <= first * 1.5 + 1, cpu)
    for one in made:
        os.kill(one["pid"], signal.SIGKILL)
    check("all are reaped", until(lambda: not any(alive(one["pid"]) for one in made)))
    check("none is left in the list", json.loads(template.ask("clones", "--json").stdout)["total"] == 0)
    template.end()


def another_user():
    """Who may open /dev/kvm, and is not root."""
    status = os.stat("/dev/kvm")
    group = status.st_gid if status.st_mode & 0o060 == 0o060 else 65534
    if os.geteuid() != 0 or not (status.st_mode & 0o006 == 0o006 or group != 65534):
        return print("skipped: a restore by another user: this one is not root, or root alone may use /dev/kvm")
    place = WORK / "another"
    subprocess.run(["cp", "-r", "--sparse=always", WORK / "snap", place], check=True)
    WORK.chmod(0o711)
    subprocess.run(["chown", "-R", f"65534:{group}", place], check=True)
    who = {"user": 65534, "group": group, "extra_groups": []}
    env = os.environ | {"XDG_RUNTIME_DIR": str(place)}
    place.chmod(0o700)
    process = subprocess.Popen([INOX, "run", "--from", place, "--api-sock", place / "api", "--allow", place],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=env, **who)
    check("another user restores", len(process.stdout.readline().strip()) == 8)
    done = inox("ctl", "-s", place / "api", "snapshot", place / "again", env=env, **who)
    check("and saves again", done.returncode == 0, done.stderr)
    process.kill()
    process.wait()
    template = subprocess.Popen([INOX, "template", place, "--api-sock", place / "t", "--allow", place], env=env, **who)
    until(lambda: (place / "t").exists())
    done = inox("ctl", "-s", place / "t", "spawn", "--json", "--id", "u", "--serial-log", place / "log", "--allow",
                place / "saves", env=env, **who)
    counts = done.returncode == 0 and until(lambda: (place / "log").exists() and numbers(place / "log"))
    check("and clones", counts, done.stderr)
    for one in json.loads(done.stdout)["clones"] if done.returncode == 0 else []:
        done = inox("ctl", "u", "snapshot", place / "saves", env=env, **who)
        check("whose clone is saved where it may be", done.returncode == 0, done.stderr)
        done = inox("ctl", "u", "snapshot", place / "of-clone", env=env, **who)
        check("and nowhere else", "[not_allowed]" in done.stderr, done.stderr)
        os.kill(one["pid"], signal.SIGKILL)
    template.terminate()
    template.wait()


CLONES_PATH.mkdir()
run_all(lambda: lives(save(WORK / "snap")), disks, costs, another_user)
