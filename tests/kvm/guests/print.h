# SPDX-License-Identifier: Apache-2.0
# Prints the text at the label text, which a zero ends, on the serial port.
.macro print_text
    lea text(%rip), %rsi
    mov $0x3f8, %dx
1:  lodsb
    test %al, %al
    jz 2f
    out %al, (%dx)
    jmp 1b
2:
.endm

# Powers off in order: ACPI S5 by the sleep control register.
.macro power_off
    mov $0x600, %dx
    mov $0x34, %al
    out %al, (%dx)
3:  jmp 3b
.endm
