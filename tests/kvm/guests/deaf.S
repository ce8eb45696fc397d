# SPDX-License-Identifier: Apache-2.0
# Lets the timer of its local APIC ask for an interrupt, by x2APIC's registers, and spins with interrupts off.
.globl _start
_start:
    cli
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
    mov $0x832, %ecx        # one shot, vector 40
    mov $0x40, %eax
    wrmsr
    mov $0x838, %ecx
    mov $1000, %eax
    wrmsr
    mov $'d', %al
    mov $0x3f8, %dx
    out %al, (%dx)
1:  jmp 1b
