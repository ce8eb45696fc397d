// SPDX-License-Identifier: Apache-2.0
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { not_executable = 126, not_found = 127 };

static char path[300]; // of the command's terminal

// The one that inox names, or the one behind /dev/console: that one itself cannot control processes
static int open_terminal(const struct orders *orders) {
    char name[256] = "";
    snprintf(path, sizeof path, "/dev/%s", orders->terminal_name);
    const int named = *orders->terminal_name ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (named >= 0) return named;
    const int file = open("/sys/class/tty/console/active", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (read(file, name, sizeof name - 1) < 0) name[0] = 0;
        close(file);
    }
    name[strcspn(name, "\n")] = 0;
    const char *last = strrchr(name, ' '); // the one that /dev/console means
    snprintf(path, sizeof path, "/dev/%s", last ? last + 1 : name);
    const int terminal = *name ? open(path, O_RDWR | O_CLOEXEC) : -1;
    return terminal >= 0 ? terminal : open("/dev/console", O_RDWR | O_CLOEXEC);
}

void drain_terminal(void) {
    const int terminal = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (terminal < 0) return;
    tcdrain(terminal);
    close(terminal);
}

void set_window(int terminal, unsigned rows, unsigned columns) {
    const struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    if (rows) ioctl(terminal, TIOCSWINSZ, &size);
}

static void take_terminal(const struct orders *orders, int terminal) {
    if (terminal < 0) return; // what init has serves
    ioctl(terminal, TIOCSCTTY, 0);
    set_window(terminal, orders->rows, orders->columns);
    for (int one = 0; one < 3; ++one) dup2(terminal, one);
}

void execute(const struct orders *orders) {
    static char *bash[] = {"/bin/bash", "-l", NULL}, *sh[] = {"/bin/sh", "-l", NULL};
    char **arguments = orders->arguments;
    for (int one = 1; one < NSIG; ++one) signal(one, SIG_DFL);
    if (*orders->directory && chdir(orders->directory) < 0) {
        dprintf(STDERR_FILENO, "inox: cannot run in %s: %m\n", orders->directory);
        _exit(not_found);
    }
    environ = orders->environment;
    if (!*arguments) arguments = access(bash[0], X_OK) == 0 ? bash : sh;
    execvpe(arguments[0], arguments, environ);
    const int error = errno, status = errno == ENOENT || errno == ENOTDIR ? not_found : not_executable;
    if (error == ENOENT && access(arguments[0], X_OK) == 0)
        dprintf(STDERR_FILENO, "inox: cannot run '%s': its interpreter or dynamic loader is not in the root\n", arguments[0]);
    else
        dprintf(STDERR_FILENO, "inox: cannot run '%s': %s\n", arguments[0], strerror(error));
    _exit(status);
}

/// As a shell counts it; the signal is told.
static int code_of(int status) {
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    const int number = WTERMSIG(status);
    say("the command was ended by signal %d (%s)%s", number, strsignal(number),
        WCOREDUMP(status) ? ", core dumped" : "");
    return 128 + number;
}

/// Leads the session in the command's stead: at the leader's end Linux drops what its terminal has not sent yet. Both
/// are one group, which nobody could continue, so Linux does not let the terminal stop it.
static void lead(const struct orders *orders) {
    for (int one = 1; one < NSIG; ++one)
        if (one != SIGCHLD) signal(one, SIG_IGN); // what the terminal sends is for the command
    const pid_t command = fork();
    if (command < 0) _exit(not_executable);
    if (command == 0) execute(orders);
    int status = 0;
    while (waitpid(command, &status, 0) < 0 && errno == EINTR) {}
    tcdrain(STDOUT_FILENO);
    _exit(code_of(status));
}

int run_command(const struct orders *orders) {
    const int terminal = open_terminal(orders);
    const pid_t leader = fork();
    if (leader < 0) fail("cannot start the command: %m");
    if (leader == 0) {
        setsid();
        take_terminal(orders, terminal);
        lead(orders);
    }
    close(terminal);
    for (;;) { // and reap whatever else was left to process 1
        int status = 0;
        const pid_t ended = wait(&status);
        if (ended < 0 && errno == EINTR) continue;
        if (ended < 0) fail("lost the command: %m");
        if (ended != leader) continue;
        if (WIFEXITED(status) || WIFSIGNALED(status)) return code_of(status);
    }
}
