// SPDX-License-Identifier: Apache-2.0
// talk: bytes between a guest and its host over TCP, vsock or a unix socket; checks them, or measures how quick they are.
//
//   talk serve ADDRESS               answers any number of clients, until it is ended
//   talk to ADDRESS check BYTES      that many bytes there, then as many back, each of them checked
//   talk to ADDRESS send SECONDS     prints MiB/s, measured until the other side has read all
//   talk to ADDRESS receive SECONDS  prints MiB/s
//   talk to ADDRESS echo COUNT       prints the median time in microseconds of one byte there and back
//
// ADDRESS: tcp:HOST:PORT   vsock:CID:PORT (any CID will do for serve)   unix:PATH
//          unix:PATH:PORT  the host's end of a VMM's vsock: "CONNECT PORT" is said first
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum { chunk = 256 * 1024, patience_seconds = 60, connect_seconds = 15 };
static uint64_t buffer[chunk / 8];

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("talk: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Addresses

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in tcp;
        struct sockaddr_vm vsock;
        struct sockaddr_un local;
    };
    socklen_t size;
    int vsock_port; // behind a unix socket; 0: none
};

static struct address parse_address(const char *text) {
    struct address address;
    char host[108];
    unsigned cid, port;
    int used = 0;
    memset(&address, 0, sizeof address);
    if (sscanf(text, "tcp:%107[^:]:%u", host, &port) == 2) {
        address.tcp = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        if (inet_pton(AF_INET, host, &address.tcp.sin_addr) != 1) fail("%s is no IPv4 address", host);
        address.size = sizeof address.tcp;
    } else if (sscanf(text, "vsock:%u:%u", &cid, &port) == 2) {
        address.vsock = (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
        address.size = sizeof address.vsock;
    } else if (sscanf(text, "unix:%107[^:]%n:%d", host, &used, &address.vsock_port) >= 1) {
        address.local.sun_family = AF_UNIX;
        strcpy(address.local.sun_path, host);
        address.size = sizeof address.local;
    } else {
        fail("what is '%s'? tcp:HOST:PORT, vsock:CID:PORT, unix:PATH or unix:PATH:PORT", text);
    }
    return address;
}

static void make_quick(int s, int family) {
    const int one = 1;
    const struct timeval patience = {patience_seconds, 0};
    if (family == AF_INET) setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

// Bytes

static size_t take(int s, void *to, size_t size) {
    const ssize_t got = recv(s, to, size, 0);
    if (got < 0) fail("reading: %s", strerror(errno));
    return (size_t)got;
}

static void take_all(int s, void *to, size_t size) {
    for (size_t done = 0, got; done < size; done += got)
        if ((got = take(s, (char *)to + done, size - done)) == 0) fail("the other side ended early");
}

static void give(int s, const void *from, size_t size) {
    for (size_t done = 0; done < size;) {
        const ssize_t sent = send(s, (const char *)from + done, size - done, MSG_NOSIGNAL);
        if (sent < 0) fail("writing: %s", strerror(errno));
        done += (size_t)sent;
    }
}

// Reads up to and with the line's end; 0 when the other side ended first.
static int take_line(int s, char *line, size_t room) {
    for (size_t at = 0; at + 1 < room; ++at) {
        if (recv(s, line + at, 1, 0) != 1) return 0;
        if (line[at] == '\n') {
            line[at] = 0;
            return 1;
        }
    }
    return 0;
}

// No two words of the stream are the same, so that a byte lost, doubled or out of place shows.
static void fill(uint64_t first_word, size_t words) {
    for (size_t i = 0; i < words; ++i) buffer[i] = (first_word + i + 1) * 0x9e3779b97f4a7c15u;
}

static void give_pattern(int s, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += chunk) {
        fill(at / 8, chunk / 8);
        give(s, buffer, bytes - at < chunk ? bytes - at : chunk);
    }
}

static void take_pattern(int s, uint64_t bytes) {
    static uint64_t seen[chunk / 8];
    for (uint64_t at = 0; at < bytes; at += chunk) {
        const size_t size = bytes - at < chunk ? bytes - at : chunk;
        take_all(s, seen, size);
        fill(at / 8, chunk / 8);
        for (size_t i = 0; i < size; ++i)
            if (((char *)seen)[i] != ((char *)buffer)[i]) fail("byte %llu is wrong", (unsigned long long)(at + i));
    }
}

static void give_for(int s, double seconds) {
    const double end = now() + seconds;
    while (now() < end) give(s, buffer, chunk);
    if (shutdown(s, SHUT_WR) != 0) fail("shutdown: %s", strerror(errno));
}

static uint64_t take_until_end(int s) {
    uint64_t bytes = 0;
    for (size_t got; (got = take(s, buffer, chunk)) != 0;) bytes += got;
    return bytes;
}

// The server

// One client: its first line says what it wants.
static void answer(int s) {
    char line[64];
    unsigned long long bytes;
    double seconds;
    if (!take_line(s, line, sizeof line)) return;
    if (sscanf(line, "check %llu", &bytes) == 1) {
        take_pattern(s, bytes);
        give_pattern(s, bytes);
    } else if (sscanf(line, "receive %lf", &seconds) == 1) {
        give_for(s, seconds);
        take(s, line, 1); // its end
    } else if (strncmp(line, "send", 4) == 0) {
        bytes = take_until_end(s);
        give(s, line, (size_t)snprintf(line, sizeof line, "%llu\n", bytes));
    } else if (strncmp(line, "echo", 4) == 0) {
        for (size_t got; (got = take(s, buffer, chunk)) != 0;) give(s, buffer, got);
    } else {
        fail("a client wants '%s'", line);
    }
}

static void serve(const char *text) {
    struct address address = parse_address(text);
    const int one = 1, family = address.any.sa_family;
    const int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) fail("socket: %s", strerror(errno));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (family == AF_UNIX) unlink(address.local.sun_path);
    if (family == AF_VSOCK) address.vsock.svm_cid = VMADDR_CID_ANY;
    if (bind(listener, &address.any, address.size) != 0 || listen(listener, 16) != 0) fail("%s: %s", text, strerror(errno));
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        const int s = accept(listener, 0, 0);
        if (s < 0) fail("accept: %s", strerror(errno));
        if (fork() == 0) {
            make_quick(s, family);
            answer(s);
            exit(0);
        }
        close(s);
    }
}

// The client

// A connected socket, or -1 when it may be better in a moment
static int try_connect(const char *text, const struct address *address) {
    char line[64];
    const int s = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0) fail("socket: %s", strerror(errno));
    make_quick(s, address->any.sa_family);
    if (connect(s, &address->any, address->size) != 0) {
        if (errno != ECONNREFUSED && errno != ECONNRESET && errno != ENOENT && errno != ENODEV) fail("%s: %s", text, strerror(errno));
    } else if (address->vsock_port == 0) {
        return s;
    } else {
        give(s, line, (size_t)snprintf(line, sizeof line, "CONNECT %d\n", address->vsock_port));
        if (take_line(s, line, sizeof line) && strncmp(line, "OK ", 3) == 0) return s;
    }
    close(s);
    return -1;
}

static int connect_to(const char *text) {
    const struct address address = parse_address(text);
    const double end = now() + connect_seconds;
    for (;;) {
        const int s = try_connect(text, &address);
        if (s >= 0) return s;
        if (now() > end) fail("%s: nobody answers", text);
        usleep(100000);
    }
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_round_trip(int s, int count) {
    double *times = calloc((size_t)count, sizeof *times);
    char byte = 1;
    for (int i = -count / 10; times && i < count; ++i) { // the first tenth is not counted
        const double start = now();
        give(s, &byte, 1);
        take_all(s, &byte, 1);
        if (i >= 0) times[i] = now() - start;
    }
    if (!times) fail("no memory");
    qsort(times, (size_t)count, sizeof *times, ascending);
    return times[count / 2];
}

static void talk(int s, const char *what, const char *value) {
    char line[64];
    give(s, line, (size_t)snprintf(line, sizeof line, "%s %s\n", what, value));
    const double start = now();
    if (strcmp(what, "check") == 0) {
        const uint64_t bytes = strtoull(value, 0, 10);
        give_pattern(s, bytes);
        take_pattern(s, bytes);
        printf("%llu bytes there and back are right\n", (unsigned long long)bytes);
    } else if (strcmp(what, "send") == 0) {
        give_for(s, atof(value));
        if (!take_line(s, line, sizeof line)) fail("the other side did not say how much it read");
        printf("%.1f\n", atof(line) / (now() - start) / 1048576);
    } else if (strcmp(what, "receive") == 0) {
        const double bytes = (double)take_until_end(s);
        printf("%.1f\n", bytes / (now() - start) / 1048576);
    } else if (strcmp(what, "echo") == 0) {
        printf("%.1f\n", median_round_trip(s, atoi(value)) * 1e6);
    } else {
        fail("check, send, receive or echo, not '%s'", what);
    }
}

int main(int count, char **words) {
    if (count == 3 && strcmp(words[1], "serve") == 0) serve(words[2]);
    if (count != 5 || strcmp(words[1], "to") != 0) fail("talk serve ADDRESS, or talk to ADDRESS check|send|receive|echo VALUE");
    talk(connect_to(words[2]), words[3], words[4]);
    return 0;
}
