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
