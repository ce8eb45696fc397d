# SPDX-License-Identifier: Apache-2.0
# Reports tests as KUnit does in a kernel's log, one of which failed, and powers off in order.
#include "print.h"
.globl _start
_start:
    print_text
    power_off
text:
    .ascii "[    0.000001] Linux version 6.12.0\r\n"
    .ascii "[    0.100000] KTAP version 1\r\n"
    .ascii "[    0.100001] 1..1\r\n"
    .ascii "[    0.100002]     KTAP version 1\r\n"
    .ascii "[    0.100003]     # Subtest: sums\r\n"
    .ascii "[    0.100004]     1..3\r\n"
    .ascii "[    0.100005]     ok 1 small\r\n"
    .ascii "[    0.100006]     # large: EXPECTATION FAILED at lib/sums.c:7\r\n"
    .ascii "[    0.100007]     not ok 2 large\r\n"
    .ascii "[    0.100008]     ok 3 huge # SKIP too slow\r\n"
    .ascii "[    0.100009] not ok 1 sums\r\n"
    .asciz "[    0.300000] reboot: Power down\r\n"
