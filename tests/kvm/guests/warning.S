# SPDX-License-Identifier: Apache-2.0
# Says what Linux says of an oops and of a warning, as a kernel with time stamps, and powers off in order.
#include "print.h"
.globl _start
_start:
    print_text
    power_off
text:
    .ascii "[    0.000001] Linux version 6.12.0\r\n"
    .ascii "BUG: unable to handle what a program prints\r\n"
    .ascii "[    0.100000] ------------[ cut here ]------------\r\n"
    .ascii "[    0.100001] WARNING: CPU: 0 PID: 1 at lib/x.c:10 f+0x1/0x2\r\n"
    .ascii "[    0.100002] Call Trace:\r\n"
    .ascii "[    0.100003] ---[ end trace 0000000000000000 ]---\r\n"
    .ascii "[    0.200000] BUG: kernel NULL pointer dereference, address: 0000000000000000\r\n"
    .ascii "[    0.200001] Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI\r\n"
    .asciz "[    0.300000] reboot: Power down\r\n"
