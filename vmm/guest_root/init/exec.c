// SPDX-License-Identifier: Apache-2.0
// Commands from the host, by vsock: one connection for each. See docs/root.md for the protocol.
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum {
    port = 1024,
    most_sessions = 64,
    window = 64 * 1024,         // bytes of input that the host sends before they are acknowledged
    largest_start = 2 << 20,    // of a start frame
    largest_frame = 64 * 1024,  // of every other frame
};

struct session {
    int host, signals;
    pid_t child;
    int input, output, error; // -1: closed; with a terminal all three are one
    int terminal;
    char pending[window];     // input that the command has not taken yet
    size_t pending_size;
    int input_ends;
};

static int get_all(int from, void *out, size_t size) {
    for (char *at = out; size;) {
        const ssize_t count = recv(from, at, size, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return 0;
        at += count;
        size -= (size_t)count;
    }
    return 1;
}

static int put_all(int to, const void *from, size_t size) {
    for (const char *at = from; size;) {
        const ssize_t count = send(to, at, size, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return 0;
        at += count;
        size -= (size_t)count;
    }
    return 1;
}

static int put_frame(int to, char type, const void *data, size_t size) {
    const uint8_t head[5] = {(uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16), (uint8_t)(size >> 24),
                             (uint8_t)type};
    return put_all(to, head, sizeof head) && put_all(to, data, size);
}

// A frame's bytes with a zero behind them; null when it is too large, or there is none
static char *get_frame(int from, char *type, size_t *size, size_t most) {
    uint8_t head[5];
    if (!get_all(from, head, sizeof head)) return NULL;
    *size = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    *type = (char)head[4];
    char *data = *size <= most ? malloc(*size + 1) : NULL;
    if (!data || !get_all(from, data, *size)) {
        free(data);
        return NULL;
    }
    data[*size] = 0;
    return data;
}

static void become_command(struct session *session, const struct orders *orders, int ends[3]) {
    setsid();
    if (session->terminal) ioctl(ends[0], TIOCSCTTY, 0);
    for (int i = 0; i < 3; ++i) dup2(ends[i], i);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    close_range(3, ~0U, 0);
    execute(orders);
}

static int open_terminal_pair(int *inner, const struct orders *orders) {
    int number = 0, unlock = 0;
    const int outer = open("/dev/ptmx", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (outer < 0 || ioctl(outer, TIOCSPTLCK, &unlock) < 0 || ioctl(outer, TIOCGPTN, &number) < 0) return -1;
    *inner = ioctl(outer, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    set_window(outer, orders->rows, orders->columns);
    return *inner < 0 ? -1 : outer;
}

static int start(struct session *session, const struct orders *orders) {
    int ends[3] = {-1, -1, -1}, mine[3] = {-1, -1, -1};
    if (session->terminal) {
        mine[0] = open_terminal_pair(&ends[0], orders);
        if (mine[0] < 0) return 0;
        mine[1] = mine[0];
        ends[1] = ends[2] = ends[0];
    } else {
        for (int i = 0; i < 3; ++i) {
            int pair[2];
            if (pipe2(pair, O_CLOEXEC) < 0) return 0;
            ends[i] = pair[i != 0];
            mine[i] = pair[i == 0];
        }
    }
    session->child = fork();
    if (session->child < 0) return 0;
    if (session->child == 0) become_command(session, orders, ends);
    for (int i = 0; i < 3; ++i)
        if (i == 0 || !session->terminal) close(ends[i]);
    session->input = mine[0];
    session->output = mine[1];
    session->error = mine[2];
    for (int i = 0; i < 3; ++i)
        if (mine[i] >= 0) fcntl(mine[i], F_SETFL, O_NONBLOCK);
    return 1;
}

static void close_input(struct session *session) {
    if (session->input >= 0 && !session->terminal) close(session->input);
    if (!session->terminal) session->input = -1;
}

static int write_input(struct session *session) {
    const ssize_t count = write(session->input, session->pending, session->pending_size);
    if (count < 0 && errno != EAGAIN) { // nobody reads: the rest is as good as taken
        const uint32_t taken = (uint32_t)session->pending_size;
        session->pending_size = 0;
        close_input(session);
        return put_frame(session->host, 'A', &taken, sizeof taken);
    }
    if (count <= 0) return 1;
    session->pending_size -= (size_t)count;
    memmove(session->pending, session->pending + count, session->pending_size);
    const uint32_t taken = (uint32_t)count;
    if (session->pending_size == 0 && session->input_ends) close_input(session);
    return put_frame(session->host, 'A', &taken, sizeof taken);
}

static void take_input(struct session *session, const char *data, size_t size) {
    if (session->input < 0) { // told as taken, so that the host goes on
        const uint32_t taken = (uint32_t)size;
        put_frame(session->host, 'A', &taken, sizeof taken);
        return;
    }
    if (size > window - session->pending_size) size = window - session->pending_size; // a host that keeps to it sends less
    memcpy(session->pending + session->pending_size, data, size);
    session->pending_size += size;
}

// One frame of the host; 0 when it is gone
static int on_host(struct session *session) {
    char type;
    size_t size;
    char *data = get_frame(session->host, &type, &size, largest_frame);
    if (!data) return 0;
    if (type == 'I') {
        take_input(session, data, size);
    } else if (type == 'E') {
        session->input_ends = 1;
        const char end_of_file = 4; // a terminal's, at the start of a line
        if (session->terminal)
            take_input(session, &end_of_file, 1);
        else if (session->pending_size == 0)
            close_input(session);
    } else if (type == 'K' && size == 1) {
        kill(-session->child, data[0]);
    } else if (type == 'W' && size == 4) {
        const uint8_t *bytes = (const uint8_t *)data;
        if (session->terminal)
            set_window(session->input, bytes[0] | (unsigned)bytes[1] << 8, bytes[2] | (unsigned)bytes[3] << 8);
    }
    free(data);
    return 1;
}

// What the command has written, once; 0 when the host is gone. -1 is put in `from` at its end.
static int on_output(struct session *session, int *from, char type, int *more) {
    char buffer[32 * 1024];
    const ssize_t count = read(*from, buffer, sizeof buffer);
    *more = count > 0;
    if (count > 0) return put_frame(session->host, type, buffer, (size_t)count);
    if (count == 0 || errno != EAGAIN) {
        if (*from != session->input) close(*from);
        *from = -1;
    }
    return 1;
}

// How the command ended, behind all that it has written
static void finish(struct session *session, int status) {
    int more = 1;
    while (session->output >= 0 && more && on_output(session, &session->output, 'O', &more)) {}
    for (more = 1; session->error >= 0 && more && on_output(session, &session->error, 'R', &more);) {}
    const uint8_t how[2] = {(uint8_t)WIFSIGNALED(status),
                            (uint8_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status))};
    put_frame(session->host, 'X', how, sizeof how);
    shutdown(session->host, SHUT_WR);
    char rest[256];
    while (recv(session->host, rest, sizeof rest, 0) > 0) {} // until the host has read it all and closed
}

static void serve(struct session *session) {
    for (;;) {
        struct pollfd polled[] = {
            {session->host, POLLIN, 0},
            {session->signals, POLLIN, 0},
            {session->output, POLLIN, 0},
            {session->error, POLLIN, 0},
            {session->pending_size ? session->input : -1, POLLOUT, 0},
        };
        int more, status;
        if (poll(polled, sizeof polled / sizeof *polled, -1) < 0 && errno != EINTR) return;
        if (polled[0].revents && !on_host(session)) {
            kill(-session->child, SIGHUP);
            return;
        }
        if (polled[4].revents && session->input >= 0 && !write_input(session)) return;
        if (polled[2].revents && !on_output(session, &session->output, 'O', &more)) return;
        if (polled[3].revents && !on_output(session, &session->error, 'R', &more)) return;
        if (!polled[1].revents) continue;
        struct signalfd_siginfo info;
        if (read(session->signals, &info, sizeof info) < 0) continue;
        if (waitpid(session->child, &status, WNOHANG) == session->child) return finish(session, status);
    }
}

static void on_connection(int host) {
    static struct session session;
    char type;
    size_t size;
    sigset_t child;
    char *text = get_frame(host, &type, &size, largest_start);
    if (!text || type != 'S') return;
    struct orders orders = parse_orders(text, size);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    session = (struct session){.host = host, .signals = signalfd(-1, &child, SFD_CLOEXEC), .terminal = orders.terminal};
    if (start(&session, &orders)) return serve(&session);
    const char *why = strerror(errno);
    put_frame(host, 'F', why, strlen(why));
}

void serve_commands(void) {
    const struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
    const int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) return; // no vsock, no commands
    if (bind(listener, (const struct sockaddr *)&any, sizeof any) < 0 || listen(listener, 16) < 0 || fork() != 0) {
        close(listener);
        return;
    }
    signal(SIGPIPE, SIG_IGN);
    for (int sessions = 0;;) {
        struct sockaddr_vm peer = {0};
        socklen_t size = sizeof peer;
        const int host = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
        while (waitpid(-1, NULL, WNOHANG) > 0) --sessions;
        if (host < 0) continue;
        // Programs of the guest reach this port, too, and are not root by that
        const int welcome = peer.svm_cid == VMADDR_CID_HOST && sessions < most_sessions;
        const pid_t session = welcome ? fork() : -1;
        if (session == 0) {
            close(listener);
            on_connection(host);
            _exit(0);
        }
        if (session > 0) ++sessions;
        close(host);
    }
}
