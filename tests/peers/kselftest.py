#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The kernel's own tests (tools/testing/selftests) run in a guest by `inox test`: each of their results is a test case
of the JUnit file. In one start of the lab machine.

    kselftest.py INOX FOLDER     FOLDER has run_kselftest.sh; INOX_TEST_GUEST_KERNEL as in tests/lab/verdict.py
"""
import os, pathlib, re, sys
import xml.etree.ElementTree as xml
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))
import lab
from lab import check, expect, expect_same

PROGRAMS = ("size:get_size", "kcmp:kcmp_test", "timers:posix_timers", "timers:nanosleep")


def outside(inox, tests):
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", "1800", inox=inox, tests=tests,
              kernel=os.environ["INOX_TEST_GUEST_KERNEL"] + "/bzImage")


def inside(inox, tests, kernel):
    words = [word for program in PROGRAMS for word in ("-t", program)]
    done = lab.run(inox, "test", "--kernel", kernel, "--memory", "1G", "--timeout", "40m", "--junit", "/tmp/junit.xml",
                   "--", f"{tests}/run_kselftest.sh", "-o", "600", *words, seconds=2700)
    print(done.stdout)
    cases = {case.get("name"): [part.tag for part in case] for case in xml.parse("/tmp/junit.xml").iter("testcase")}
    check("", every_result_is_a_test_case, done.stdout, cases)
    check("", the_exit_code_follows_the_results, done.returncode, cases)


def every_result_is_a_test_case(printed, cases):
    said, program = {}, ""
    for line in printed.splitlines():
        if found := re.fullmatch(r"# selftests: (\S+): (\S+)", line):
            program = ".".join(found.groups())
        elif found := re.fullmatch(r"# (not )?ok \d+ (?:- )?([^#]+?)( # \w+.*)?", line):
            said[f"{program}.{found[2].strip()}"] = ["skipped"] if found[3] else ["failure"] if found[1] else []
    expect(len(said) > 20, f"only {len(said)} results were printed")
    for name, parts in said.items():
        expect(cases.get(name) == parts, f"'{name}' should be {parts}, not {cases.get(name)}")
    for program in ("size.get_size", "timers.posix_timers", "timers.nanosleep"):
        expect(any(name.startswith(f"{program}.") for name in said), f"{program} printed no result")
    expect_same(cases.get("size.get_size.get runtime memory use"), [])


def the_exit_code_follows_the_results(code, cases):
    failed = any(part in ("failure", "error") for parts in cases.values() for part in parts)
    expect_same(code, 1 if failed else 0)


lab.main(outside, inside)
