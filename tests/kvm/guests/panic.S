# SPDX-License-Identifier: Apache-2.0
# Reports a panic as Linux's driver does, twice, says so, and goes on for ever.
.globl _start
_start:
    mov $0x505, %dx
    in (%dx), %al
    mov %al, %ah
    mov $0x01, %al
    and %ah, %al        # what the device does not take is not reported
    out %al, (%dx)
    out %al, (%dx)
    mov $'p', %al
    mov $0x3f8, %dx
    out %al, (%dx)
1:  jmp 1b
