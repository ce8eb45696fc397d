// SPDX-License-Identifier: Apache-2.0
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { exit_port = 0xf4, boot_timer_port = 0xf5, failure_port = 0xf6, boot_done = 123 };
// Documentation/admin-guide/tainted-kernels.rst: a bad page, an oops, a warning, a soft lockup
enum { bad = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14 };

static int proc = -1, sys = -1, messages = -1, ports_file = -1, console = -1;
static int ports; // this process may write to them

void open_reports(void) {
    proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    messages = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    console = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
    ports = ioperm(exit_port, 3, 1) == 0;
    if (!ports) ports_file = open("/dev/port", O_WRONLY | O_CLOEXEC);
}

static int write_port(unsigned short port, unsigned char value) {
    if (ports) outb(value, port);
    return ports || (ports_file >= 0 && pwrite(ports_file, &value, 1, port) == 1);
}

void greet(void) { write_port(boot_timer_port, boot_done); }

static void vsay(char *text, size_t size, const char *format, va_list values) {
    const int to = console >= 0 ? console : STDERR_FILENO;
    vsnprintf(text, size, format, values);
    if (dprintf(to, "inox: %s\n", text) < 0) { /* the status tells, too */ }
}

void say(const char *format, ...) {
    char text[1024];
    va_list values;
    va_start(values, format);
    vsay(text, sizeof text, format, values);
    va_end(values);
}

void fail(const char *format, ...) {
    char text[1024];
    va_list values;
    va_start(values, format);
    vsay(text, sizeof text, format, values);
    va_end(values);
    tcdrain(console);
    for (const char *c = text; *c; ++c) write_port(failure_port, (unsigned char)*c);
    write_port(failure_port, '\n');
    sleep(1);
    abort(); // the kernel panics, which is a failure, too
}

static long number_at(int folder, const char *path) {
    char text[32] = "";
    const int file = openat(folder, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return strtol(text, NULL, 10);
}

// The first line of the kernel's own that tells of it ("PRIORITY,...;TEXT"; a program's have a facility, from 8 on)
static void first_report(char *out, size_t size) {
    static const char *const starts[] = {"WARNING: ", "BUG: ", "kernel BUG at ", "Oops: ", "general protection fault",
                                         "UBSAN: ", "watchdog: BUG: ", "rcu: INFO: ", "INFO: task "};
    char record[8192];
    for (;;) {
        const ssize_t count = read(messages, record, sizeof record - 1);
        if (count < 0 && (errno == EPIPE || errno == EINTR)) continue; // some were overwritten
        if (count <= 0) return;
        record[count] = 0;
        record[strcspn(record, "\n")] = 0;
        const char *text = strchr(record, ';');
        if (!text || strtol(record, NULL, 10) >= 8) continue;
        for (size_t i = 0; i < sizeof starts / sizeof *starts; ++i)
            if (strncmp(text + 1, starts[i], strlen(starts[i])) == 0) {
                snprintf(out, size, "; first: %.200s", text + 1);
                return;
            }
    }
}

void report_kernel(void) {
    const long warnings = number_at(sys, "kernel/warn_count"), oopses = number_at(sys, "kernel/oops_count");
    const long tainted = number_at(proc, "sys/kernel/tainted");
    if (!warnings && !oopses && !(tainted & bad)) return;
    char first[256] = "";
    if (messages >= 0) first_report(first, sizeof first);
    // inox --fail-on kernel knows this line (vmm/instance/verdict/kernel_text.cpp)
    say("kernel: %ld warnings, %ld oopses, tainted %ld%s", warnings, oopses, tainted, first);
    if (oopses || tainted & 1 << 7) sleep(1); // a panic may be under way on another CPU: pvpanic tells
}

// Nothing writes any more, and a root that was written to is whole
static void stop_all(void) {
    kill(-1, SIGKILL);
    for (int tries = 0; tries < 200 && waitpid(-1, NULL, WNOHANG) >= 0; ++tries)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    sync();
    mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
}

void end_with(int status) {
    stop_all();
    drain_terminal();
    if (console >= 0) tcdrain(console);
    if (write_port(exit_port, (unsigned char)status)) sleep(1);
    // Without the port a good end can still be told, and a bad one must not look like it
    if (status == 0) reboot(RB_POWER_OFF);
    say("the command's status %d cannot be told: the kernel lets no program use I/O ports", status);
    tcdrain(console);
    abort();
}
