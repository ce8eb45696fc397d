# SPDX-License-Identifier: Apache-2.0
# The state of AVX as a guest has it: what CPUID says of it for each XCR0, sixteen registers over 40,000 exits to user
# space, and the guest's own XSAVE and XRSTOR. Says 'r' once the registers are full. Ends with 42, with 43 on a CPU
# without AVX, or with the number of the check that failed.

.macro check number, condition
    mov $\number, %r8b
    j\condition 1f
    jmp end
1:
.endm

.macro each_register instruction
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    \instruction \n
    .endr
.endm
.macro fill n
    vmovdqu pattern + 32 * \n, %ymm\n
.endm
.macro keep n
    vmovdqu %ymm\n, found + 32 * \n
.endm

.globl _start
_start:
    mov $stack_end, %esp
    mov $43, %r8b
    mov $1, %eax
    cpuid
    and $(1 << 28 | 1 << 26), %ecx
    cmp $(1 << 28 | 1 << 26), %ecx
    jne end

    mov %cr4, %rax
    and $~(1 << 18), %rax
    mov %rax, %cr4
    mov $1, %eax
    cpuid
    test $1 << 27, %ecx         # OSXSAVE follows CR4
    check 1, z
    mov %cr4, %rax
    or $(1 << 18 | 1 << 9), %rax
    mov %rax, %cr4
    mov $1, %eax
    cpuid
    test $1 << 27, %ecx
    check 2, nz

    xor %ecx, %ecx              # XCR0 after reset: x87 only
    xgetbv
    cmp $1, %eax
    check 3, e
    call leaf_d
    cmp $576, %ebx              # of what XCR0 has
    check 4, e
    cmp $832, %ecx              # of all that the CPU has
    check 5, ae
    and $7, %eax
    cmp $7, %eax
    check 6, e

    mov $3, %eax
    call set_xcr0
    call leaf_d
    cmp $576, %ebx
    check 7, e
    mov $7, %eax
    call set_xcr0
    xor %ecx, %ecx
    xgetbv
    cmp $7, %eax
    check 8, e
    call leaf_d
    cmp $832, %ebx
    check 9, e
    mov $0xd, %eax
    mov $2, %ecx
    cpuid
    cmp $256, %eax
    check 10, e
    cmp $576, %ebx
    check 11, e

    each_register fill
    mov $0x3f8, %dx
    mov $'r', %al
    out %al, %dx
    mov $0x1234, %dx
    mov $20000, %ecx
    mov $0xd0000000, %esi
1:  in %dx, %al
    mov (%rsi), %eax
    loop 1b
    call compare
    check 12, e

    mov $7, %eax
    xor %edx, %edx
    xsave area
    testb $4, area + 512
    check 13, nz
    mov pattern + 16, %rax      # the upper half of the first register
    cmp %rax, area + 576
    check 14, e
    vzeroall
    mov $7, %eax
    xor %edx, %edx
    xrstor area
    call compare
    check 15, e
    mov $42, %r8b

end:
    mov %r8b, %al
    out %al, $0xf4
    jmp end

set_xcr0:                       # EAX
    xor %ecx, %ecx
    xor %edx, %edx
    xsetbv
    ret

leaf_d:
    mov $0xd, %eax
    xor %ecx, %ecx
    cpuid
    ret

compare:                        # equal if all registers have their pattern
    each_register keep
    mov $pattern, %esi
    mov $found, %edi
    mov $64, %ecx
    repe cmpsq
    ret

.data
.balign 64
pattern:
    .set value, 0x0123456789abcdef
    .rept 64
    .quad value
    .set value, value * 0x5851f42d4c957f2d + 0x14057b7ef767814f
    .endr
.bss
.balign 64
area: .skip 4096
found: .skip 512
.balign 16
    .skip 4096
stack_end:
