# SPDX-License-Identifier: Apache-2.0
# The words of a panic, printed by a program, and then a reboot in order.
#include "print.h"
.globl _start
_start:
    print_text
    mov $0x602, %dx
    mov $0x01, %al
    out %al, (%dx)
3:  jmp 3b
text:
    .asciz "$ grep 'Kernel panic - not syncing' log\r\n[    0.2] reboot: Restarting system\r\n"
