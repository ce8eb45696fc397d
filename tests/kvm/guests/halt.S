# SPDX-License-Identifier: Apache-2.0
# Halts with interrupts off: nothing can wake it.
.globl _start
_start:
    cli
1:  hlt
    jmp 1b
