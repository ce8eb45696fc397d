#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Passes ctest's output on; before its summary, which stays last, counts the tests that were skipped and says why.

Usage: ctest ... | skips.py BUILD/Testing/Temporary/LastTest.log
"""
import re
import sys


def reasons(log):
    """What the last line with the word in each test's output says."""
    found = {}
    for block in re.split(r"^(?=\d+/\d+ Testing: )", log, flags=re.M):
        name = re.match(r"\d+/\d+ Testing: (\S+)", block)
        said = [line.strip() for line in block.splitlines() if re.search(r"\bskip|\bmissing\b|^no ", line, re.I)]
        if name and said:
            found[name[1]] = said[-1]
    return found


def main():
    summary = []
    for line in sys.stdin:
        if summary or re.match(r"\d+% tests passed", line):
            summary.append(line)
        else:
            sys.stdout.write(line)
            sys.stdout.flush()
    skipped = [found[1] for line in summary if (found := re.match(r"\s*\d+ - (\S+) \(Skipped\)", line))]
    if skipped:
        with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
            known = reasons(log.read())
        print(f"\n{len(skipped)} skipped:")
        for name in skipped:
            print(f"  {name}: {known.get(name, 'it did not say why')}")
    sys.stdout.writelines(summary)


main()
