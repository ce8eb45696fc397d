# SPDX-License-Identifier: Apache-2.0
# Reports a panic whose crash kernel takes over, then one of that kernel, and resets.
.globl _start
_start:
    mov $0x505, %dx
    mov $0x02, %al
    out %al, (%dx)
    mov $0x01, %al
    out %al, (%dx)
    mov $0x602, %dx
    out %al, (%dx)
1:  jmp 1b
