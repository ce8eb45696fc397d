// SPDX-License-Identifier: Apache-2.0
// The first program of a guest with --root: loads modules, mounts the root, runs the command there, tells how it ended.
#pragma once

#include <stddef.h>

struct orders {
    const char *root, *name, *type, *modules_from, *directory, *terminal_name, *release, *modules_here;
    unsigned partition, rows, columns;
    int writable, terminal;
    char **modules, **arguments, **environment; // each ends with a null pointer
};

// orders.c: what inox wrote to /orders. Never returns without them.
struct orders read_orders(void);
struct orders parse_orders(char *text, size_t size);

// modules.c: in this order; a module whose device is not there, or that is loaded already, is no failure.
void load_modules(char **paths);

// mounts.c: the kernel's own file systems, before the root and in it.
void mount_early(void);
void mount_root(const struct orders *orders);
void enter_root(void);
void show_modules(const struct orders *orders); // where modprobe looks for them
void loopback_up(void);

// command.c: the command's exit status; 128 and the signal's number where a signal ended it.
int run_command(const struct orders *orders);
void drain_terminal(void); // what the command wrote last is on its way
// In a child: becomes the command, or ends with the status of a shell that cannot.
void execute(const struct orders *orders) __attribute__((noreturn));
void set_window(int terminal, unsigned rows, unsigned columns);

// exec.c: a process that runs what `inox exec` asks for, where the guest has a vsock.
void serve_commands(void);

// report.c
void open_reports(void);      // while /proc and /sys are where they belong
void report_kernel(void);     // one line on the console where the kernel found something wrong with itself
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void greet(void);             // user space is up
void end_with(int status) __attribute__((noreturn));
// The root or the command's beginning is at fault, not the command. `format` is the cause and what to do.
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
