# SPDX-License-Identifier: Apache-2.0
# Prints three lines, one of them without a line end, then idles.
.globl _start
_start:
    lea text(%rip), %rsi
    mov $0x3f8, %dx
1:  lodsb
    test %al, %al
    jz 2f
    out %al, %dx
    jmp 1b
2:  sti
3:  hlt
    jmp 3b
text:
    .asciz "first line\r\nsecond line\r\nlogin: "
