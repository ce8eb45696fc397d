#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""open_in.py PROCESS FLAGS PATH...: opens each path in each thread of another process, in place of a system call that
the thread then makes again. Prints a line for each: the thread's name, the path, and the error or "open". What a guest
that has taken a thread over could open."""
import ctypes
import errno
import os
import signal
import sys

SEIZE, INTERRUPT, SYSCALL, DETACH, GETREGS, SETREGS = 0x4206, 0x4207, 24, 17, 12, 13
TRACE_SYSGOOD, TRAP_OF_CALL = 1, signal.SIGTRAP | 0x80
OPENAT, CLOSE, AT_FDCWD = 257, 3, -100
NAMES = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es"
         " fs gs").split()


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in NAMES]


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread, address=None, data=None):
    if libc.ptrace(request, thread, address, data) == -1:
        sys.exit(f"ptrace {request:#x} of {thread}: {os.strerror(ctypes.get_errno())}")


class Thread:
    """Stopped at the beginning of a system call, which it makes in the end."""

    def __init__(self, process, thread):
        self.id = thread
        self.memory = os.open(f"/proc/{process}/mem", os.O_RDWR)
        ptrace(SEIZE, thread, None, TRACE_SYSGOOD)
        ptrace(INTERRUPT, thread)
        self.stop()
        self.next_call()
        self.before = self.registers()

    def stop(self):
        _, status = os.waitpid(self.id, 0x40000000)  # __WALL
        if not os.WIFSTOPPED(status):
            sys.exit(f"thread {self.id} ended: {status:#x}")
        return status >> 8 & 0xff

    def next_call(self):
        """To the beginning or the end of a system call."""
        while True:
            ptrace(SYSCALL, self.id)
            if self.stop() == TRAP_OF_CALL:
                return

    def registers(self):
        registers = Registers()
        ptrace(GETREGS, self.id, None, ctypes.addressof(registers))
        return registers

    def set(self, registers):
        ptrace(SETREGS, self.id, None, ctypes.addressof(registers))

    def call(self, number, *arguments):
        """At a beginning, as it is again in the end."""
        registers = self.registers()
        registers.orig_rax = registers.rax = number
        for name, value in zip(("rdi", "rsi", "rdx", "r10"), arguments):
            setattr(registers, name, value & (1 << 64) - 1)
        self.set(registers)
        self.next_call()
        result = ctypes.c_longlong(self.registers().rax).value
        again = Registers.from_buffer_copy(self.before)
        again.rip -= 2  # the instruction itself
        again.rax = self.before.orig_rax
        self.set(again)
        self.next_call()
        return result

    def open(self, path, flags):
        place = (self.before.rsp - 65536) & ~4095
        os.pwrite(self.memory, path.encode() + b"\0", place)
        result = self.call(OPENAT, AT_FDCWD, place, flags, 0o600)
        if result < 0:
            return errno.errorcode[-result]
        self.call(CLOSE, result)
        return "open"

    def leave(self):
        ptrace(DETACH, self.id)


def main():
    process, flags = int(sys.argv[1]), int(sys.argv[2])
    for name in sorted(os.listdir(f"/proc/{process}/task"), key=int):
        with open(f"/proc/{process}/task/{name}/comm", encoding="utf-8") as comm:
            who = comm.read().strip()
        if who.startswith(("kvm-", "iou-")):
            continue  # the kernel's own, which never leave it
        thread = Thread(process, int(name))
        for path in sys.argv[3:]:
            print(who, path, thread.open(path, flags))
        thread.leave()


main()
