# SPDX-License-Identifier: Apache-2.0
# Counts the interrupts of its local APIC's timer, ten milliseconds apart, and prints each number in eight hexadecimal
# digits on a line of its own.
.globl _start
_start:
    cli
    lea stack_top(%rip), %rsp
    lea tick(%rip), %rax    # a gate for vector 40
    lea idt+0x40*16(%rip), %rdi
    mov %ax, (%rdi)
    mov %cs, %ecx
    mov %cx, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    shr $16, %rax
    mov %ax, 6(%rdi)
    shr $16, %rax
    mov %eax, 8(%rdi)
    lea idt(%rip), %rax
    mov %rax, idtr+2(%rip)
    lidt idtr(%rip)
    mov $0x1b, %ecx         # IA32_APIC_BASE: enabled, x2APIC
    rdmsr
    or $0xc00, %eax
    wrmsr
    xor %edx, %edx
    mov $0x80f, %ecx        # spurious interrupts: vector ff, APIC on
    mov $0x1ff, %eax
    wrmsr
    mov $0x83e, %ecx        # timer: divide by 1
    mov $0xb, %eax
    wrmsr
    mov $0x832, %ecx        # periodic, vector 40
    mov $0x20040, %eax
    wrmsr
    mov $0x838, %ecx
    mov $10000000, %eax
    wrmsr
    sti
1:  hlt
    jmp 1b

tick:
    incl count(%rip)
    mov count(%rip), %ebx
    mov $0x3f8, %dx
    mov $8, %ecx
2:  rol $4, %ebx
    mov %ebx, %eax
    and $15, %eax
    cmp $10, %eax
    jb 3f
    add $'a'-10-'0', %eax
3:  add $'0', %eax
    out %al, (%dx)
    loop 2b
    mov $'\n', %al
    out %al, (%dx)
    mov $0x80b, %ecx        # end of interrupt
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
    iretq

.data
.balign 16
idt: .fill 256*16, 1, 0
idtr: .word 256*16-1
    .quad 0
count: .long 0
.balign 16
    .fill 4096, 1, 0
stack_top:
