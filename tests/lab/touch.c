// SPDX-License-Identifier: Apache-2.0
// A guest of its own without an operating system. It says "ready", and for each byte that it is sent it writes to the
// next MiB of its memory and says "touched N".

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned long u64;

enum { port = 0x3f8, status = port + 5, has_byte = 1, mib = 1 << 20, page = 4096, first_mib = 16 };

static u8 in8(u16 from) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(from));
    return value;
}
static void out8(u16 to, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(to)); }

static void say(const char* text) {
    while (*text)
        out8(port, (u8)*text++);
}
static void say_number(u64 value) {
    char text[24];
    int at = 24;
    text[--at] = 0;
    do
        text[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    say(text + at);
}

__attribute__((used)) static void live(void) {
    say("ready\n");
    for (u64 touched = 0;;) {
        if ((in8(status) & has_byte) == 0)
            continue;
        (void)in8(port);
        for (u64 at = 0; at < mib; at += page)
            *(volatile u64*)((first_mib + touched) * mib + at) = at;
        ++touched;
        say("touched ");
        say_number(touched);
        say("\n");
    }
}

static u8 stack[4096] __attribute__((used, aligned(16)));
__asm__(".globl _start\n_start:\n lea stack+4096(%rip), %rsp\n call live\n");
