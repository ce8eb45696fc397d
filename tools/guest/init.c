// SPDX-License-Identifier: Apache-2.0
// The first program of our guests and of the lab machine. Its first act is the greeting, which a start-up time is measured
// by; then it runs /etc/inox/run and ends the machine with that script's exit status, or becomes /etc/inox/next when the
// script has left one:
//   inox.end=poweroff, inox.end=reboot   on the kernel command line: end that way
//   otherwise                            the status goes to the exit port, one byte; where nothing answers there, reboot
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const char next_script[] = "/etc/inox/next";
enum { exit_port = 0xf4, boot_timer_port = 0xf5, boot_done = 123 };

static int ports; // this process may write to I/O ports

// A VMM that reads and writes back the CPU's state (QEMU does) under the lab's emulated SVM leaves a task register with
// which that CPU refuses user space every port.
static sigjmp_buf before_port;
static void on_refusal(int signal) { siglongjmp(before_port, signal); }

static void write_port(unsigned char value, unsigned short port) {
    signal(SIGSEGV, on_refusal);
    if (sigsetjmp(before_port, 1) == 0) outb(value, port);
    signal(SIGSEGV, SIG_DFL);
}

static void greet(void) {
    ports = ioperm(exit_port, 2, 1) == 0;
    static const char text[] = "inox: user space up\n";
    if (write(1, text, sizeof text - 1) < 0) { /* no console: the port still tells */ }
    if (ports) write_port(boot_done, boot_timer_port);
}

static const char *command_line(void) {
    static char line[8192];
    const int file = open("/proc/cmdline", O_RDONLY);
    if (file >= 0 && line[0] == 0 && read(file, line, sizeof line - 1) < 0) line[0] = 0;
    if (file >= 0) close(file);
    return line;
}

static int command_line_has(const char *word) { return strstr(command_line(), word) != 0; }

// Every end of the machine is at once, with whatever its terminals have not sent yet: the console, and the one that
// inox.out= names.
static void drain(void) {
    char path[64] = "/dev/";
    const char *name = strstr(command_line(), "inox.out=");
    tcdrain(1);
    if (!name) return;
    name += strlen("inox.out=");
    const size_t length = strcspn(name, " \n");
    if (length >= sizeof path - strlen(path)) return;
    strncat(path, name, length);
    const int terminal = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK);
    if (terminal < 0) return;
    tcdrain(terminal);
    close(terminal);
}

// busybox's poweroff and reboot without -f ask process 1 in this way
static void on_request(int signal) {
    sync();
    drain();
    reboot(signal == SIGTERM ? RB_AUTOBOOT : RB_POWER_OFF);
}

static int run_script(void) {
    const pid_t script = fork();
    if (script == 0) {
        setsid();
        execl("/bin/sh", "sh", "/etc/inox/run", (char *)0);
        _exit(127);
    }
    for (;;) { // and reap whatever else was left to process 1
        int status = 0;
        if (wait(&status) != script) continue;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

int main(void) {
    greet();
    signal(SIGTERM, on_request);
    signal(SIGUSR1, on_request);
    signal(SIGUSR2, on_request);
    setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
    setenv("HOME", "/root", 1);
    const int status = run_script();
    if (status == 0 && access(next_script, R_OK) == 0) execl("/bin/sh", "sh", next_script, (char *)0);
    sync();
    drain();
    if (command_line_has("inox.end=poweroff")) reboot(RB_POWER_OFF);
    if (command_line_has("inox.end=reboot")) reboot(RB_AUTOBOOT);
    if (ports) write_port((unsigned char)status, exit_port);
    reboot(RB_AUTOBOOT);
    return 0;
}
