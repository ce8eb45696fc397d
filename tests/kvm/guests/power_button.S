# SPDX-License-Identifier: Apache-2.0
# Says that it listens, looks at the power button's register until it is pressed, and powers off.
.globl _start
_start:
    mov $'b', %al
    mov $0x3f8, %dx
    out %al, (%dx)
    mov $0x603, %dx
1:  in (%dx), %al
    test $1, %al
    jz 1b
    mov $0x600, %dx
    mov $0x34, %al
    out %al, (%dx)
2:  jmp 2b
