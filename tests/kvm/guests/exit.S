# SPDX-License-Identifier: Apache-2.0
# Writes 42 to the exit port.
.globl _start
_start:
    mov $42, %al
    out %al, $0xf4
1:  jmp 1b
