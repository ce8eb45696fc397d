#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a kernel developer waits for a command in a guest on the host's root: `inox test -- true` beside virtme-ng
with the same kernel, in turns, in one start of the lab machine. Prints the medians and their ratios.

    times.py INOX TREE     TREE: what virtme_tree of tools/lib/peers.sh prints;
                          INOX_TEST_GUEST_KERNEL as in tests/lab/verdict.py
INOX_PEER_TURNS: how many (default: 9).
"""
import os, pathlib, re, statistics, sys, time
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))
import lab
from lab import check, expect, expect_same
from virtme import CPUS, MEMORY, Inox, Virtme, packages

PROMISE = 0.8
PROBE = "/bin/busybox"
LINE = (f"uname -r; sha256sum {PROBE}; "
        "while read -r _ dir type _; do [ $dir != / ] || echo root $type; done </proc/mounts")


def outside(inox, tree):
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", "3600", inox=inox, tree=tree,
              kernel=os.environ["INOX_TEST_GUEST_KERNEL"] + "/bzImage",
              turns=int(os.environ.get("INOX_PEER_TURNS", "9")))


def inside(inox, tree, kernel, turns):
    runners = [Inox(inox, kernel), Virtme(tree, kernel, rust=True), Virtme(tree, kernel, rust=False)]
    lab.note(f"{packages(tree)}; {CPUS} CPU, {MEMORY}, the kernel {release(kernel)}")
    for runner in runners:
        check(runner.name, runs_the_command_in_a_guest_on_the_hosts_root, runner, release(kernel))
    if lab.failures:
        return
    seconds = {runner: [] for runner in runners}
    for turn in range(turns):
        for runner in runners if turn % 2 == 0 else reversed(runners):
            begin = time.monotonic()
            done = runner.run("true")
            seconds[runner].append(time.monotonic() - begin)
            expect_same(done.returncode, 0)
    for runner, values in seconds.items():
        lab.note(f"{runner.name}: median {statistics.median(values):.2f} s, "
                 f"from {min(values):.2f} to {max(values):.2f}")
    for peer in runners[1:]:
        check("", inox_takes_a_part_of_the_time_of, peer.name, seconds[runners[0]], seconds[peer])


def release(kernel):
    return re.search(r" version (\S+)", lab.output("file", kernel))[1]


def runs_the_command_in_a_guest_on_the_hosts_root(runner, release):
    done = runner.run(LINE)
    lines = done.stdout.splitlines()
    expect(done.returncode == 0, f"status {done.returncode}: {done.stdout}")
    expect(release in lines, f"not this kernel: {done.stdout}")
    expect(f"{lab.sha256(PROBE)}  {PROBE}" in lines, f"not the host's files: {done.stdout}")
    roots = [line for line in lines if line.startswith("root ")]
    lab.note(f"{runner.name}: its root is mounted as {', '.join(line[5:] for line in roots)}{transport(runner)}")


def transport(runner):
    """What vng uses for the root: it says so itself."""
    if isinstance(runner, Inox):
        return ""
    said = runner.run("true", ["--verbose"]).stdout
    found = re.findall(r"virtme: use 'microvm'|fallback to 9p", said)
    return f"; it says {', '.join(found) or 'nothing of its transport'}"


def inox_takes_a_part_of_the_time_of(name, inox, peer):
    ratio = statistics.median(inox) / statistics.median(peer)
    pairs = statistics.median(a / b for a, b in zip(inox, peer))
    lab.note(f"inox test takes {ratio:.2f} of the time of {name}; the median of the pairs is {pairs:.2f}")
    expect(ratio <= PROMISE, f"{ratio:.2f} is more than {PROMISE}")


lab.main(outside, inside)
