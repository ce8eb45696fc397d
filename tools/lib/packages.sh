# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Debian packages, by what needs them.

build_packages=(g++ cmake ninja-build libboost1.81-dev nlohmann-json3-dev libcli11-dev liburing-dev catch2
    python3 python3-yaml)
test_packages=(python3 qemu-system-x86 iproute2 busybox-static gcc libc6-dev kmod xz-utils zstd lz4 acpica-tools)
lint_packages=(clang-format clang-tidy shellcheck python3)
fuzz_packages=(clang-19 libclang-rt-19-dev)
