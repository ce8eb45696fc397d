#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`git bisect run` finds a bad change of a kernel: a repository of a few commits, each of them really built, and tried
by `inox test` in a start of the lab machine of its own.

    bisect.py INOX SOURCE BUILD     a kernel's source, and the folder of its build
"""
import os, pathlib, re, subprocess, sys
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))
import lab
from lab import ROOT, checks, expect, expect_match, expect_same

FILE = "fs/proc/version.c"
PLACE = "\treturn 0;\n"     # of the function that prints /proc/version
CHANGES = [("a comment", "\t/* The banner ends with a line feed. */\n"),
           ("a warning", "\tWARN_ON_ONCE(m->count > 0);\n"),
           ("a second comment", "\t/* Nothing else belongs here. */\n")]
TRY = """
make -s O={build} -j{jobs} bzImage >>{build}/bisect.log 2>&1 || exit 125
exec {root}/tools/lab --smp 1 --memory 1536 --timeout 900 -- \\
    {inox} test --kernel {build} --root / --memory 256M -- cat /proc/version
"""


def outside(inox, source, build):
    checks("", Bisection(inox, source, build).finds_the_change_that_warns)


class Bisection:
    def __init__(self, inox, source, build):
        self.source = source
        self.script = TRY.format(inox=inox, build=build, root=ROOT, jobs=os.cpu_count())

    def git(self, *words, seconds=60):
        return lab.output("git", "-C", self.source, "-c", "user.name=test", "-c", "user.email=test@example.org", *words,
                          seconds=seconds)

    def commit(self, subject):
        self.git("commit", "-q", "-m", subject)
        return self.git("rev-parse", "HEAD").strip()

    def make_commits(self):
        """The commit of each change, and that before all of them. The repository knows no file but the one that
        changes."""
        file = pathlib.Path(self.source, FILE)
        for _, line in CHANGES:     # an earlier run may have left them
            file.write_text(file.read_text().replace(line, ""))
        self.git("init", "-q")
        self.git("add", FILE)
        commits = {"the source": self.commit("the source")}
        for subject, line in CHANGES:
            file.write_text(file.read_text().replace(PLACE, line + PLACE, 1))
            self.git("add", FILE)
            commits[subject] = self.commit(subject)
        return commits

    def finds_the_change_that_warns(self):
        commits = self.make_commits()
        self.git("bisect", "start", "HEAD", commits["the source"])
        done = subprocess.run(["git", "-C", self.source, "bisect", "run", "sh", "-c", self.script],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              cwd=self.source, timeout=7200)
        print(done.stdout)
        expect_same(done.returncode, 0)
        expect_match(f"^{commits['a warning']} is the first bad commit", done.stdout)
        expect_match(rf"of the console, warning: .*{FILE}", done.stdout)
        expect(len(re.findall(r"^inox test: \S+: (ok|kernel report) after", done.stdout, re.M)) == 2,
               "two kernels should have been tried")


lab.main(outside, None)
