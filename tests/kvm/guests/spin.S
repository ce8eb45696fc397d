# SPDX-License-Identifier: Apache-2.0
# Says so on the serial port, then spins for ever with interrupts off.
.globl _start
_start:
    mov $0x3f8, %dx
    mov $'s', %al
    out %al, %dx
1:  jmp 1b
