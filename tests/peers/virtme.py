# SPDX-License-Identifier: Apache-2.0
"""virtme-ng beside inox: the same kernel, command, CPUs and memory, on the root file system of the host."""
import os
import lab

CPUS, MEMORY = "1", "512M"


class Inox:
    name = "inox test"

    def __init__(self, inox, kernel):
        self.inox, self.kernel = inox, kernel

    def command(self, line, options=()):
        """This shell line in a guest."""
        words = line.split() if line.isalnum() else ["sh", "-c", line]
        return [self.inox, "test", "--kernel", self.kernel, "--root", "/", "--cpus", CPUS, "--memory", MEMORY, *options,
                "--", *words]

    def run(self, line, options=(), seconds=600):
        return lab.run(*self.command(line, options), seconds=seconds)


class Virtme:
    """`tree` has Debian's packages, and in run/ the programs to start. With upstream's init in `rust`, else with the
    shell script of Debian's package."""

    def __init__(self, tree, kernel, rust):
        self.vng, self.kernel, self.rust = f"{tree}/run/vng", kernel, rust
        self.name = "vng, init in Rust" if rust else "vng, init in shell"
        self.environment = {**os.environ, "PATH": f"{tree}/run:{os.environ['PATH']}",
                            "PYTHONPATH": f"{tree}/usr/lib/python3/dist-packages"}

    def command(self, line, options=()):
        init = [] if self.rust else ["--no-virtme-ng-init"]
        return [self.vng, "--run", self.kernel, "--cpus", CPUS, "--memory", MEMORY, *init, *options, "--", line]

    def run(self, line, options=(), seconds=600):
        return lab.run(*self.command(line, options), seconds=seconds, env=self.environment)


def packages(tree):
    """Their names and versions."""
    names = lab.read(f"{tree}/package").split()
    return " and ".join(" ".join(name.split("_")[:2]) for name in names)
