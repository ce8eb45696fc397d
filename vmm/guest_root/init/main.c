// SPDX-License-Identifier: Apache-2.0
#include "init.h"

#include <signal.h>
#include <unistd.h>

int main(void) {
    // What a shell in the guest says to process 1 (poweroff, reboot) does not end it
    for (int one = 1; one < NSIG; ++one)
        if (one != SIGCHLD && one != SIGSEGV && one != SIGBUS && one != SIGILL && one != SIGFPE) signal(one, SIG_IGN);
    mount_early();
    open_reports();
    const struct orders orders = read_orders();
    load_modules(orders.modules);
    greet();
    mount_root(&orders);
    enter_root();
    show_modules(&orders);
    loopback_up();
    serve_commands();
    const int status = run_command(&orders);
    report_kernel();
    end_with(status);
}
