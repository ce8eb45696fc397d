# SPDX-License-Identifier: Apache-2.0
# Prints three lines, one of them without a line end, then idles.
#include "print.h"
.globl _start
_start:
    print_text
    sti
3:  hlt
    jmp 3b
text:
    .asciz "first line\r\nsecond line\r\nlogin: "
