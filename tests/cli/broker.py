#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A broker that stands still holds those requests only that need it, and one that was killed is told by each answer.

    broker.py INOX GUESTS FOLDER
"""
import concurrent.futures, http.client, json, os, pathlib, signal, socket, subprocess, sys, time

inox, guests, folder = sys.argv[1:]
place, failed = pathlib.Path(folder), []
sock, image, other = str(place / "sock"), str(place / "image"), str(place / "other")
for path in (image, other):
    pathlib.Path(path).write_bytes(bytes(1 << 20))


def check(text, good):
    print("PASS" if good else "FAIL", text)
    if not good:
        failed.append(text)


def ask(method, path, body=None):
    """Seconds, status, text."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(sock)
    begin = time.monotonic()
    connection.request(method, path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    text = answer.read().decode()
    return time.monotonic() - begin, answer.status, text


def status():
    return json.loads(ask("GET", "/inox/status")[2])


def eventually(what):
    for _ in range(600):
        try:
            if what():
                return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def metric(name):
    lines = ask("GET", "/inox/metrics")[2].splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith(name + " ")] or None


def disk(path):
    return {"disk": {"path_on_host": path}}


held, _ = os.pipe()
vmm = subprocess.Popen([inox, "run", "--kernel", f"{guests}/echo", "--memory", "16M", "--api-sock", sock,
                        "--disk", f"path={image},id=first", "--allow", folder, "--timeout", "900s"],
                       stdin=held, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    check("the guest runs", eventually(lambda: status()["state"] == "Running"))
    children = subprocess.run(["pgrep", "-P", str(vmm.pid)], capture_output=True, text=True, check=False).stdout
    broker = int(children.split()[0])
    check("the broker answers", status()["broker"] == "answers")
    os.kill(broker, signal.SIGSTOP)
    requests = [("PUT", "/inox/devices/x", disk(other)),
                ("PATCH", "/drives/first", {"drive_id": "first", "path_on_host": other}),
                ("PUT", "/inox/dump", {"path": f"{folder}/core"})]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        waiting = [threads.submit(ask, *request) for request in requests]
        times = []
        while not all(one.done() for one in waiting):
            times.append(ask("GET", "/inox/status")[0])
            time.sleep(0.02)
    # One wait of five seconds is not a busy machine's
    check(f"nobody else waits ({len(times)} answers, the slowest after {max(times):.3f} s)", max(times) < 2)
    for request, one in zip(requests, waiting):
        took, code, text = one.result()
        check(f"{request[1]} is refused after {took:.1f} s: {text}",
              code == 400 and '"timed_out"' in text and "inox-broker" in text)
    check("it is said to be silent", status()["broker"] == "silent")
    check("and counted", metric("inox_confinement_broker_timeouts_total") >= [3])
    os.kill(broker, signal.SIGCONT)
    check("it answers again", eventually(lambda: ask("PUT", "/inox/devices/x", disk(other))[1] == 204))
    check("and is said to", status()["broker"] == "answers")
    before = metric("inox_confinement_refused_files_total")
    check("a file that is not allowed", '"not_allowed"' in ask("PUT", "/inox/devices/y", disk("/etc/passwd"))[2])
    check("is counted", metric("inox_confinement_refused_files_total") == [before[0] + 1])

    os.kill(broker, signal.SIGKILL)
    check("it is said to have ended", eventually(lambda: status()["broker"] == "ended"))
    for request in (("PUT", "/inox/devices/z", disk(image)),
                    ("PUT", "/drives/z", {"drive_id": "z", "path_on_host": image, "is_root_device": False})):
        text = ask(*request)[2]
        check(f"{request[1]} says so: {text}", '"host_error"' in text and "start inox again" in text)
    check("it is a metric", metric("inox_confinement_broker_ended") == [1])
    check("what is there works", ask("DELETE", "/inox/devices/x?force=true")[1] == 204)
    check("what needs no file comes", ask("PUT", "/inox/devices/rng", {"entropy": {}})[1] == 204)
finally:
    begin = time.monotonic()
    vmm.terminate()
    check("it ends as if nothing had been", vmm.wait(60) == 143)
    check("and soon", time.monotonic() - begin < 30)
sys.exit(1 if failed else 0)
