# SPDX-License-Identifier: Apache-2.0
# Writes to the serial port without end.
.globl _start
_start:
    mov $0x3f8, %dx
    mov $'x', %al
1:  out %al, %dx
    jmp 1b
