# SPDX-License-Identifier: Apache-2.0
# 1000 times an exception, and right behind it a read where nothing is, which KVM emulates: each in another page, since
# KVM remembers such pages. Ends with 42; with 1 if the read has another answer than all ones.
.globl _start
_start:
    mov $stack_end, %esp
    mov $divided, %eax
    mov $idt, %edi
    mov %ax, (%rdi)
    mov %cs, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    shr $16, %eax
    mov %ax, 6(%rdi)
    lidt idtr
    mov $1000, %ebx
    mov $0xd0000000, %esi
1:  xor %ecx, %ecx
    xor %edx, %edx
    div %ecx
    mov (%rsi), %eax
    cmp $-1, %eax
    jne 2f
    add $4096, %esi
    dec %ebx
    jnz 1b
    mov $42, %al
    jmp 3f
2:  mov $1, %al
3:  out %al, $0xf4
    jmp 3b

divided:                        # by zero: goes on behind the instruction
    addq $2, (%rsp)
    iretq

.data
idtr:
    .word 15
    .quad idt
.balign 16
idt: .fill 16
.bss
.balign 16
    .skip 4096
stack_end:
