# SPDX-License-Identifier: Apache-2.0
# Echoes serial input in upper case; a dot ends the guest with exit code 7. Polls: no interrupts.
.globl _start
_start:
1:  mov $0x3fd, %dx
    in %dx, %al
    test $1, %al
    jz 1b
    mov $0x3f8, %dx
    in %dx, %al
    cmp $'.', %al
    je 3f
    cmp $'a', %al
    jb 2f
    cmp $'z', %al
    ja 2f
    sub $0x20, %al
2:  out %al, %dx
    jmp 1b
3:  mov $7, %al
    out %al, $0xf4
4:  jmp 4b
