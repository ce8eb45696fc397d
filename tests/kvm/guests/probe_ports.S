# SPDX-License-Identifier: Apache-2.0
# Pokes every port and a spread of device memory with every width; ends with 0 when it is still alive.
.globl _start
_start:
    xor %ebx, %ebx
1:  mov %ebx, %edx
    # Leave out what would end the guest: ACPI sleep and reset, the keyboard controller's command port, the exit port.
    cmp $0x600, %edx
    jb 2f
    cmp $0x603, %edx
    jbe 4f
2:  cmp $0x64, %edx
    je 4f
    cmp $0xf1, %edx
    jb 3f
    cmp $0xf4, %edx
    jbe 4f
3:  in %dx, %al
    in %dx, %ax
    in %dx, %eax
    mov $0xa5, %al
    out %al, %dx
    mov $0x5aa5, %ax
    out %ax, %dx
    mov $0x5aa55aa5, %eax
    out %eax, %dx
4:  add $7, %ebx
    cmp $0x1000, %ebx
    jb 1b
    mov $0xc0000000, %rbx
5:  movb (%rbx), %al
    movw (%rbx), %ax
    movl (%rbx), %eax
    movq (%rbx), %rax
    movb $1, 1(%rbx)
    movw $1, 3(%rbx)
    movl $1, 5(%rbx)
    movq %rbx, 7(%rbx)
    add $0x00fff123, %rbx
    mov $0xfe000000, %rax
    cmp %rax, %rbx
    jb 5b
    xor %eax, %eax
    out %al, $0xf4
6:  jmp 6b
