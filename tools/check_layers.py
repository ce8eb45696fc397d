#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks who includes whom. Prints each include that breaks the rule; status 1 if there is one."""
import fnmatch
import os
import re
import sys

# A folder may include itself and these; the longest prefix of a file's path counts.
LAYERS = {
    "vmm/base": [],
    "vmm/confine/tables": ["vmm/base", "vmm/confine", "vmm/kvm", "devices"],  # numbers of ioctls
    "vmm/memory": ["vmm/base"],
    "vmm/bus": ["vmm/base", "vmm/memory"],
    "vmm/kvm": ["vmm/base", "vmm/memory", "vmm/bus"],
    "vmm/boot": ["vmm/base", "vmm/memory", "vmm/bus", "vmm/kvm"],
    "iommu": ["vmm/base", "vmm/memory"],
    "vmm/share": ["vmm/base"],
    "vmm/confine": ["vmm/base", "vmm/share"],
    "devices": ["vmm/base", "vmm/memory", "vmm/bus", "vmm/share", "iommu"],
    "vmm/config": ["vmm/base", "vmm/memory", "vmm/boot", "iommu", "devices"],
    "vmm/guest_root": ["vmm/base", "vmm/memory", "vmm/boot", "iommu", "devices", "vmm/config", "vmm/share"],
    "vmm/host": ["vmm/base", "vmm/memory", "vmm/kvm", "vmm/share", "iommu", "devices", "vmm/config"],
    "vmm/snapshot": ["vmm/base", "vmm/memory"],
    "vmm/machine": ["vmm/base", "vmm/memory", "vmm/snapshot", "vmm/bus", "vmm/kvm", "vmm/boot", "iommu", "devices",
                    "vmm/config", "vmm/host", "vmm/guest_root"],
    "vmm/instance": ["vmm/base", "vmm/confine", "vmm/memory", "vmm/snapshot", "vmm/kvm", "vmm/boot", "iommu",
                     "devices", "vmm/config", "vmm/host", "vmm/guest_root", "vmm/machine"],
    "api": ["vmm/base", "vmm/config", "vmm/host", "vmm/machine", "vmm/instance"],
    "vmm/gdb": ["vmm/base", "vmm/memory", "vmm/kvm", "vmm/boot", "vmm/config", "vmm/machine", "vmm/instance", "api"],
    "vmm/registry": ["vmm/base", "vmm/config"],
    "vmm/template": ["vmm/base", "vmm/confine", "vmm/snapshot", "vmm/config", "vmm/machine", "vmm/instance", "devices",
                     "api"],
    "vmm/jail": ["vmm/base", "vmm/config", "devices"],
    "vmm/test": ["vmm/base", "vmm/config"],
    "vmm": ["vmm/base", "vmm/confine", "vmm/config", "vmm/snapshot", "vmm/guest_root", "vmm/host", "vmm/instance",
            "vmm/gdb", "vmm/jail", "vmm/registry", "vmm/share", "vmm/template", "vmm/test", "api"],  # main
}

PRODUCT = list(LAYERS)
LAYERS["tests/support"] = PRODUCT + ["tests", "tests/fakes"]
LAYERS["tests/fakes"] = PRODUCT + ["tests/support"]  # also for programs without Catch2

# A library may be included only by files that match; this keeps a build on two cores quick.
LIBRARIES = {
    "boost/": ["vmm/base/event_loop*.cpp", "api/server*"],
    "nlohmann/": ["vmm/base/state.*", "vmm/snapshot/*", "vmm/config/*", "vmm/host/host_report*",
                  "vmm/instance/config_check*", "vmm/instance/verdict/result*", "vmm/instance/mmds*",
                  "vmm/instance/snapshot/describe*", "vmm/template/service*", "vmm/test/outcome*",
                  "api/routes*", "api/json*", "api/firecracker/*", "tests/*"],
    "CLI/": ["vmm/main*"],
    "fuse3/": ["vmm/share/libfuse.hpp"],
    "catch2/": ["tests/*"],
}

INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer(path):
    found = [name for name in LAYERS if path.startswith(name + "/")]
    return max(found, key=len, default=None)


def without_namespace(root, path):
    """Unit tests of a folder are compiled together: each file has a namespace of its own."""
    wanted = f"namespace inox::{os.path.basename(path)[:-len('.cpp')]} {{\n"
    with open(os.path.join(root, path), encoding="utf-8") as source:
        if wanted not in source:
            yield f"{path}:1: no '{wanted.rstrip()}' in a unit test of this name"


def complaints(root, path):
    own = layer(path)
    if path.startswith("tests/unit/") and path.endswith(".cpp"):
        yield from without_namespace(root, path)
    with open(os.path.join(root, path), encoding="utf-8") as source:
        for number, line in enumerate(source, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quote, target = match.groups()
            for library, files in LIBRARIES.items():
                if target.startswith(library) and not any(fnmatch.fnmatch(path, file) for file in files):
                    yield f"{path}:{number}: <{target}> belongs into {' '.join(files)} only"
            if quote == '"' and own:
                if not os.path.exists(os.path.join(root, target)):
                    target = os.path.join(os.path.dirname(path), target)  # beside the file, or generated
                other = layer(target) or ("tests" if target.startswith("tests/") else None)
                if other and other != own and other not in LAYERS[own]:
                    yield f"{path}:{number}: {own} may not include {other} ({target})"


def main():
    root = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), ".."))
    count = found = 0
    for top in ("vmm", "iommu", "devices", "api", "tests"):
        for folder, _, files in os.walk(os.path.join(root, top)):
            for file in sorted(files):
                if file.endswith((".cpp", ".hpp")):
                    count += 1
                    for complaint in complaints(root, os.path.relpath(os.path.join(folder, file), root)):
                        print(complaint)
                        found += 1
    print(f"check_layers: {count} files, {found or 'no'} broken rule{'' if found == 1 else 's'}")
    sys.exit(1 if found or not count else 0)


main()
