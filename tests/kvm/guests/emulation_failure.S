# SPDX-License-Identifier: Apache-2.0
# Jumps into the 32-bit device hole, where KVM would have to emulate what is not there.
.globl _start
_start:
    mov $0xd0000000, %rax
    jmp *%rax
