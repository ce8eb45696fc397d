# SPDX-License-Identifier: Apache-2.0
# Counts to 200 in a function, with a breakpoint instruction of its own each time, which its handler counts as well.
# Exit code: 0 when both counts are equal, so a debugger took none of the guest's own breakpoints.
.globl _start
_start:
    lea stack_top(%rip), %rsp
    lea on_breakpoint(%rip), %rax
    lea gate_3(%rip), %rbx
    mov %ax, (%rbx)
    mov %cs, 2(%rbx)
    movw $0x8e00, 4(%rbx)
    shr $16, %rax
    mov %ax, 6(%rbx)
    lidt table(%rip)
again:
    call count
    int3
after_int3:
    cmpq $200, counter(%rip)
    jne again
    mov counter(%rip), %rax
    sub handled(%rip), %rax
    out %al, $0xf4
    hlt

.globl count
.type count, @function
count:
    incq counter(%rip)
    ret
.size count, . - count

on_breakpoint:
    incq handled(%rip)
    iretq

.data
table:
    .word 4 * 16 - 1
    .quad gates
.balign 16
gates:
    .skip 3 * 16
gate_3:
    .skip 16
.globl counter
.type counter, @object
.size counter, 8
counter: .quad 0
.globl handled
.type handled, @object
.size handled, 8
handled: .quad 0
.balign 16
    .skip 4096
stack_top:
