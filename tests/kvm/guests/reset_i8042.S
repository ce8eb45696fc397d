# SPDX-License-Identifier: Apache-2.0
# Reset through the keyboard controller.
.globl _start
_start:
    mov $0xfe, %al
    out %al, $0x64
1:  jmp 1b
