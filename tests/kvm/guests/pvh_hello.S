# SPDX-License-Identifier: Apache-2.0
# Starts by the PVH note in 32-bit mode: one byte on the serial port, then power off. Boots under other VMMs, too.
.section .note.pvh, "a", @note
    .align 4
    .long 4, 4, 18
    .asciz "Xen"
    .long _start
.text
.code32
.globl _start
_start:
    mov $0x3f8, %dx
    mov $'!', %al
    out %al, %dx
    mov $0x600, %dx
    mov $0x34, %al
    out %al, %dx
1:  hlt
    jmp 1b
