#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a cpio archive (newc) for an initramfs; the same input gives the same bytes, and no root is needed.

Usage: mkcpio.py OUT < SPEC, where each line of SPEC is one of
    dir PATH MODE
    file PATH MODE SOURCE
    link PATH TARGET
    node PATH MODE c|b MAJOR MINOR
"""
import stat
import sys


def member(number, path, mode, data=b"", major=0, minor=0):
    name = path.lstrip("/").encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name), 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def parse(number, line):
    kind, path, *rest = line.split()
    if kind == "dir":
        return member(number, path, stat.S_IFDIR | int(rest[0], 8))
    if kind == "file":
        with open(rest[1], "rb") as source:
            return member(number, path, stat.S_IFREG | int(rest[0], 8), source.read())
    if kind == "link":
        return member(number, path, stat.S_IFLNK | 0o777, rest[0].encode())
    if kind == "node":
        node = stat.S_IFCHR if rest[1] == "c" else stat.S_IFBLK
        return member(number, path, node | int(rest[0], 8), b"", int(rest[2]), int(rest[3]))
    raise ValueError(f"what is '{kind}'?")


def main():
    lines = [line for line in sys.stdin.read().splitlines() if line.strip()]
    with open(sys.argv[1], "wb") as out:
        for number, line in enumerate(lines, 1):
            out.write(parse(number, line))
        out.write(member(0, "TRAILER!!!", 0))


main()
