# SPDX-License-Identifier: Apache-2.0
# Reset through the ACPI reset register.
.globl _start
_start:
    mov $0x602, %dx
    mov $1, %al
    out %al, %dx
1:  jmp 1b
