# SPDX-License-Identifier: Apache-2.0
# Faults without an interrupt table.
.globl _start
_start:
    lidt empty(%rip)
    ud2
empty:
    .word 0
    .quad 0
