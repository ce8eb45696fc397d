# SPDX-License-Identifier: Apache-2.0
# Says so, then halts with interrupts on: alive, though silent. It has no IDT, so it masks the two interrupt controllers
# of a PC, which let everything through after a reset: a device that is added interrupts.
.globl _start
_start:
    mov $0x3f8, %dx
    mov $'i', %al
    out %al, %dx
    mov $0xff, %al
    out %al, $0x21
    out %al, $0xa1
    sti
1:  hlt
    jmp 1b
