#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_call.py THREAD NUMBER: makes a thread of another process make system call NUMBER in place of its next one."""
import ctypes
import os
import signal
import sys

SEIZE, INTERRUPT, SYSCALL, DETACH, PEEKUSER, POKEUSER = 0x4206, 0x4207, 24, 17, 3, 6
ORIG_RAX = 15 * 8  # of struct user, x86-64
TRACE_SYSGOOD = 1

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread, address=0, data=0):
    if libc.ptrace(request, thread, address, data) == -1 and request != PEEKUSER:
        sys.exit(f"ptrace {request:#x} of {thread}: {os.strerror(ctypes.get_errno())}")


def stop(thread):
    _, status = os.waitpid(thread, 0x40000000)  # __WALL
    if not os.WIFSTOPPED(status):
        sys.exit(f"thread {thread} ended: {status:#x}")
    return status >> 8


def main():
    thread, number = int(sys.argv[1]), int(sys.argv[2])
    ptrace(SEIZE, thread, 0, TRACE_SYSGOOD)
    ptrace(INTERRUPT, thread)
    stop(thread)
    # The first stop at a system call that follows is a beginning
    while True:
        ptrace(SYSCALL, thread)
        where = stop(thread)
        if where & 0xff == signal.SIGTRAP | 0x80:
            break
    ptrace(POKEUSER, thread, ORIG_RAX, number)
    ptrace(DETACH, thread)


main()
