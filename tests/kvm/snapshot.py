#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A bare guest that counts its timer's interrupts is saved and restored again and again: no number is lost, and none
comes twice. What is damaged, foreign or of another machine is refused by name.

    snapshot.py INOX GUESTS
"""
import json, os, pathlib, signal, subprocess, time
from guest import GUESTS, INOX, WORK, Run, check, in_order, inox, run_all

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
TURNS = int(os.environ.get("INOX_SNAPSHOT_TURNS", "5"))
Run.limit = "100s"
ID_PAGE = 0xef     # of the guest: it has the id of the snapshot


def generations():
    run = Run("--kernel", GUESTS / "ticks", "--memory", "32M")
    next_number = 1
    for turn in range(1, TURNS + 1):
        numbers = run.numbers(20)
        folder = WORK / f"snap{turn}"
        run.save(folder)
        numbers += run.end()
        check(f"turn {turn}: no number is lost or comes twice", in_order(numbers, next_number), numbers)
        next_number += len(numbers)
        run = Run("--from", folder)
    more = run.numbers(20)
    check("the last one goes on", in_order(more, next_number), more)
    run.end()
    twice = Run("--from", WORK / "snap1")
    first = twice.numbers(3)
    twice.end()
    again = Run("--from", WORK / "snap1")
    check("one snapshot can be restored twice", again.numbers(3) == first, first)
    again.end()


def paused_and_running():
    run = Run("--from", WORK / "snap1", "--paused")
    deadline = time.monotonic() + 30
    state = ""
    while state in ("", "Not started") and time.monotonic() < deadline:
        time.sleep(0.1)
        done = run.ctl("status", "--json")
        state = json.loads(done.stdout)["state"] if done.returncode == 0 else ""
    check("a guest that is restored paused waits", state == "Paused", state)
    run.ctl("resume")
    numbers = run.numbers(3)
    check("and goes on when it is told", in_order(numbers, numbers[0]), numbers)
    done = run.ctl("snapshot", WORK / "running")
    check("a running guest is saved, and goes on", done.returncode == 0, done.stderr)
    numbers = run.numbers(30)
    check("without losing a number", in_order(numbers, numbers[0]), numbers)
    done = run.ctl("snapshot", WORK / "running")
    check("a snapshot is not written over", "[in_use]" in done.stderr or "in_use" in done.stderr, done.stderr)
    done = run.ctl("snapshot", "/var/inox-not-allowed")
    check("nothing is written where nobody allowed it", "not_allowed" in done.stderr, done.stderr)
    run.end()


def served():
    """The memory comes from another process, which then dies."""
    def server(folder):
        path = WORK / "pages"
        path.unlink(missing_ok=True)
        process = subprocess.Popen([TOOLS / "page_server.py", path, folder / "memory"])
        while not path.exists():
            time.sleep(0.05)
        return process, path

    before = Run("--from", WORK / "snap1")
    expected = before.numbers(5)
    before.end()
    process, path = server(WORK / "snap1")
    run = Run("--from", WORK / "snap1", "--page-server", path)
    numbers = run.numbers(5)
    check("a guest goes on whose memory a server brings", numbers == expected, numbers)
    done = run.ctl("snapshot", WORK / "served")
    good = inox("snapshot", "verify", WORK / "served")
    check("and is saved as a whole", done.returncode == 0 and good.returncode == 0, done.stderr + good.stderr)
    status = pathlib.Path(f"/proc/{run.process.pid}/task")
    lists = {(task / "comm").read_text().strip(): "Seccomp:\t2" in (task / "status").read_text()
             for task in status.iterdir()}
    check("the thread that watches the server has a list", lists.get("page-server"), lists)
    for child in subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split():
        os.kill(int(child), signal.SIGKILL)
    killed = time.monotonic()
    code = run.process.wait(30)
    took = time.monotonic() - killed
    said = run.said()
    check("a guest whose server dies ends with its error", code == 81 and "[page_server]" in said, (code, said))
    check("and soon", took < 5, took)
    process.kill()
    process.wait()
    again = Run("--from", WORK / "served")
    more = again.numbers(3)
    check("what was saved of it goes on", in_order(more, more[0]) and more[0] > numbers[-1], more)
    again.end()

    done = inox("run", "--from", WORK / "snap1", "--page-server", path, "--timeout", "20s")
    check("no server", done.returncode == 81 and "cannot connect to the page server" in done.stderr, done.stderr)
    process, path = server(WORK / "snap2")
    done = inox("run", "--from", WORK / "snap1", "--page-server", path, "--timeout", "20s")
    check("a server of another snapshot", "[snapshot_invalid]" in done.stderr, done.stderr)
    process.kill()


def refusals():
    good = WORK / "snap1"
    info = inox("snapshot", "info", good)
    check("info shows what it is", "32 MiB" in info.stdout and "1 CPU" in info.stdout, info.stdout + info.stderr)
    check("verify finds a good one good", inox("snapshot", "verify", good).returncode == 0)

    def refused(name, change, code, *words):
        bad = WORK / "bad"
        subprocess.run(["rm", "-rf", bad])
        subprocess.run(["cp", "-r", "--sparse=always", good, bad], check=True)
        change(bad)
        done = inox(*(words or ("run", "--from")), bad, "--timeout", "20s") if not words else inox(*words, bad)
        check(name, f"[{code}]" in done.stderr, done.stderr)

    def flip(path, at):
        data = bytearray(path.read_bytes())
        data[at] ^= 0x40
        path.write_bytes(data)

    refused("a truncated state", lambda bad: os.truncate(bad / "state", 1000), "snapshot_invalid")
    refused("an altered state", lambda bad: flip(bad / "state", 500), "snapshot_invalid")
    refused("a state of something else", lambda bad: (bad / "state").write_bytes(b"x" * 5000), "snapshot_invalid")
    refused("no memory", lambda bad: (bad / "memory").unlink(), "snapshot_missing")
    refused("a shorter memory", lambda bad: os.truncate(bad / "memory", 1 << 20), "snapshot_invalid")
    refused("another snapshot's memory", lambda bad: (bad / "memory").write_bytes((WORK / "snap2/memory").read_bytes()),
            "snapshot_invalid")
    refused("damaged memory is found by verify", lambda bad: flip(bad / "memory", 0x100010), "snapshot_invalid",
            "snapshot", "verify")
    done = inox("run", "--from", good, "--memory", "64M")
    check("what the snapshot says is not said again", "[bad_option]" in done.stderr and "--memory" in done.stderr,
          done.stderr)


def chains():
    """A chain of Diffs is what a whole snapshot is, with a log of writes and without."""
    for name, *words in (("with a log", "--kernel", GUESTS / "ticks", "--memory", "32M", "--track-dirty-pages"),
                         ("of a restored guest without a log", "--from", WORK / "snap1"),
                         ("of a restored guest with a log", "--from", WORK / "snap1", "--track-dirty-pages"),
                         ("of a booted guest without a log", "--kernel", GUESTS / "ticks", "--memory", "32M")):
        run = Run(*words)
        base = WORK / "base"
        subprocess.run(["rm", "-rf", base])
        run.numbers(3)
        if "--from" not in words:
            done = run.ctl("snapshot", WORK / "none", "--diff")
            check(f"{name}: the first one is no Diff", "wrong_state" in done.stderr, done.stderr)
        run.save(base)
        for turn in range(1, 6):
            run.ctl("resume")
            run.numbers(3)
            run.ctl("pause")
            diff = WORK / f"diff{turn}"
            subprocess.run(["rm", "-rf", diff])
            done = run.ctl("snapshot", diff, "--diff")
            check(f"{name}: a Diff is saved", done.returncode == 0, done.stderr)
        full = WORK / "full"
        subprocess.run(["rm", "-rf", full])
        done = run.ctl("snapshot", full)
        numbers = run.end()
        info = {where.name: json.loads(inox("snapshot", "info", where, "--json").stdout)
                for where in (base, WORK / "diff1", full)}
        check(f"{name}: it is called a Diff", info["diff1"]["type"] == "Diff", info)
        if name != "of a booted guest without a log":   # which touched a huge page or two
            check(f"{name}: a Diff is smaller", info["diff1"]["stored_bytes"] < info["full"]["stored_bytes"], info)
        done = inox("run", "--from", WORK / "diff1", "--timeout", "20s")
        check(f"{name}: a Diff is not restored alone", "[snapshot_mismatch]" in done.stderr, done.stderr)
        done = inox("snapshot", "merge", base, WORK / "diff2")
        check(f"{name}: a Diff is not merged onto another base", "[snapshot_mismatch]" in done.stderr, done.stderr)
        check(f"{name}: verify reads a Diff", inox("snapshot", "verify", WORK / "diff1").returncode == 0)
        for turn in range(1, 6):
            done = inox("snapshot", "merge", base, WORK / f"diff{turn}")
            check(f"{name}: Diff {turn} is merged", done.returncode == 0, done.stderr)
        check(f"{name}: what was merged is whole", inox("snapshot", "verify", base).returncode == 0)
        check(f"{name}: and the same as a whole one", memory_of(base) == memory_of(full))
        run = Run("--from", base)
        more = run.numbers(3)
        check(f"{name}: it goes on", in_order(more, more[0]) and (not numbers or more[0] >= numbers[-1]), more)
        run.end()


def memory_of(folder):
    """Without the page that has the id."""
    data = bytearray((folder / "memory").read_bytes())
    both = [bytes(data[at:at + 4096]) for at in range(0, len(data), 4096)]
    return both[:ID_PAGE] + both[ID_PAGE + 1:]


def firecrackers_diff():
    """Written over a copy of the base, and never over what a guest runs from."""
    work = {"state": str(WORK / "fc.state"), "memory": str(WORK / "fc.memory")}
    subprocess.run(["cp", "--sparse=always", WORK / "snap1/memory", work["memory"]], check=True)
    run = Run("--from", WORK / "snap1")
    first = run.numbers(3)
    run.ctl("pause")

    def create(memory):
        return run.ctl("request", "PUT", "/snapshot/create", json.dumps(
            {"snapshot_type": "Diff", "snapshot_path": work["state"], "mem_file_path": str(memory)}))
    done = create(WORK / "snap1/memory")
    check("a Diff does not go over the file that its guest runs from", "in_use" in done.stderr + done.stdout,
          done.stderr)
    done = create(work["memory"])
    check("it goes over a copy", done.returncode == 0, done.stderr)
    run.end()
    folder = WORK / "fc"
    folder.mkdir()
    os.rename(work["state"], folder / "state")
    os.rename(work["memory"], folder / "memory")
    run = Run("--from", folder)
    more = run.numbers(3)
    check("which is restored then", in_order(more, more[0]) and more[0] > first[-1], more)
    run.end()


def another_disk():
    """What the guest had must be there, as it was; and for one guest at a time."""
    disk, folder = WORK / "disk.img", WORK / "disk"
    disk.write_bytes(bytes(1 << 20))
    run = Run("--kernel", GUESTS / "ticks", "--memory", "32M", "--disk", f"id=data,path={disk}")
    run.numbers(3)
    run.save(folder)
    run.end()

    def refused(name, code, text, *words):
        done = inox("run", "--from", folder, "--timeout", "20s", *words)
        check(name, f"[{code}]" in done.stderr and text in done.stderr, done.stderr)

    named = ["--disk", f"id=data,path={disk}"]
    refused("a disk that nobody names", "not_allowed", f"add --disk id=data,path={disk}")
    refused("a disk of another name", "snapshot_mismatch", "has no disk 'other'", "--disk", f"id=other,path={disk}")
    refused("a missing disk", "disk_missing", "nothing", "--disk", f"id=data,path={WORK}/nothing")
    run = Run("--from", folder, *named)
    run.numbers(3)
    refused("a second guest with the same disk", "in_use", "end the other user", *named)
    run.end()
    os.truncate(disk, 2 << 20)
    refused("a disk of another size", "snapshot_invalid", "has 4096 sectors now, and had 2048", *named)


def killed_saves():
    """Whenever it is killed, no snapshot has its name, or a whole one."""
    whole = 0
    for turn in range(12):
        run = Run("--from", WORK / "snap1")
        run.numbers(1)
        folder = WORK / f"killed{turn}"
        asker = subprocess.Popen([INOX, "ctl", "-s", run.socket, "snapshot", folder], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        time.sleep(0.004 * turn)
        run.process.send_signal(signal.SIGKILL)
        run.end()
        asker.wait()
        if (folder / "state").exists():
            whole += 1
            done = inox("snapshot", "verify", folder)
            check(f"turn {turn}: the one with its name is whole", done.returncode == 0, done.stderr)
    print(f"NOTE {whole} of 12 saves were complete when inox was killed")


run_all(generations, paused_and_running, served, refusals, chains, firecrackers_diff, another_disk, killed_saves)
