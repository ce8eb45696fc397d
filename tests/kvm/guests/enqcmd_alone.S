# SPDX-License-Identifier: Apache-2.0
# ENQCMD to an address where nothing is.
.globl _start
_start:
    mov $0xd0000000, %rax
    lea _start(%rip), %rsi
    enqcmd (%rsi), %rax
