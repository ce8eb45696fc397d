# SPDX-License-Identifier: Apache-2.0
# Says what a panicking Linux does, and then resets.
.globl _start
_start:
    lea text(%rip), %rsi
    mov $0x3f8, %dx
1:  lodsb
    test %al, %al
    jz 2f
    out %al, (%dx)
    jmp 1b
2:  mov $0x602, %dx
    mov $0x01, %al
    out %al, (%dx)
3:  jmp 3b
text:
    .asciz "[    0.1] Kernel panic - not syncing: Attempted to kill init!\r\n[    0.2] Rebooting in 1 seconds..\r\n"
