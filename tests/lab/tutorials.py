#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the tutorials give to paste works when it is pasted: their first blocks, and those that tell what comes out.
Each runs in a shell at the top of the repository, in one start of the lab machine, which is why `tools/lab ... --` is
left out of them.

    tutorials.py INOX
"""
import contextlib, os, pathlib, re, signal, subprocess
import lab
from lab import check, expect, expect_same, read

# Document, which block, what it prints, with which status
PASTES = [("tutorial-boot", 1, r"^Linux 6\.1[\s\S]*exit code 0$", 0),
          ("tutorial-boot", 5, r"inox: error: the guest's kernel panicked", 0),
          ("tutorial-api", 1, r"^state +(Running|Starting)", 0),
          ("tutorial-vfio", 1, r"[nN]VM", 0),
          ("tutorial-vfio", 2, r"^disk of 32768 sectors\n1\n2\n3$", 0),
          ("tutorial-iommu", 1, r"^\d+/devices/0000:00:02\.0\n[\s\S]*^bb9f8df61474d25e7", 0),
          ("tutorial-pasid", 1, r"^pasid: all is well$", 0),
          ("testing", 1, r"^Linux inox 6\.12[\s\S]*: ok after", 0),
          ("root", 1, r"^Linux 6\.12[\s\S]*README\.md", 3),
          ("ci", 1, r"2 of 2 machines are good", 0)]
FETCHED = [*(("kernel", name) for name in ("6.1-cloud", "6.12")), ("modules", "6.12"),
           *(("initramfs", name) for name in ("6.1-cloud", "6.12"))]


def block(document, number):
    blocks = re.findall(r"^```\n(.*?)^```$", read(lab.ROOT / f"docs/{document}.md"), re.S | re.M)
    return re.sub(r"tools/lab( -d \w+)? -- ", "", blocks[number - 1])


def outside(inox):
    if not os.path.samefile(lab.ROOT / "build/release/inox", inox):
        raise lab.Skip("the tutorials use build/release/inox")
    for words in FETCHED:
        lab.dev(*words)
    lab.enter("--nested", "--smp", "1", "--memory", "2048", "--timeout", "2400", "--device", "nvme", "--out",
              str(lab.ROOT / "build"))


def inside():
    for document, number, *wanted in PASTES:
        check(document, the_block_works_when_pasted, number, pathlib.PurePath(document), wanted)


def the_block_works_when_pasted(number, document, wanted):
    """In a process group of its own: a block may leave a guest in the background"""
    with open("/tmp/said", "w", encoding="utf-8") as out:
        shell = subprocess.Popen(["bash", "-c", block(document, number)], cwd=lab.ROOT, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        shell.wait(600)
    except subprocess.TimeoutExpired:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait(60)
    text, status = wanted
    said = read("/tmp/said").replace("\r", "")
    expect(re.search(text, said, re.M) is not None, f"no '{text}' in {lab.tail(said, 12)}")
    expect_same(shell.returncode, status)


lab.main(outside, inside)
