# SPDX-License-Identifier: Apache-2.0
# Says what a panicking Linux does, and then resets.
#include "print.h"
.globl _start
_start:
    print_text
    mov $0x602, %dx
    mov $0x01, %al
    out %al, (%dx)
3:  jmp 3b
text:
    .asciz "[    0.1] Kernel panic - not syncing: Attempted to kill init!\r\n[    0.2] Rebooting in 1 seconds..\r\n"
