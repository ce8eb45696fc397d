// SPDX-License-Identifier: Apache-2.0
// A guest of its own that writes numbered sectors to its first virtio-mmio disk, flushes after each few, and says on the
// serial port which number is safe: "ack N" after the flush of number N has come back. It goes on behind the highest
// number that it finds on the disk. tools/kill-loop kills it, and looks for what it was promised.
//
// A sector has MAGIC, its number, and 62 words made of the number; number N is at sector N modulo those of the disk.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { per_flush = 4, queue_size = 16, scan_sectors = 64, sector_size = 512 };
static const u64 magic = 0x726f746365736e69; // "insector"

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }

static void say(const char* text) {
    while (*text)
        out8(0x3f8, (u8)*text++);
}
static void say_number(const char* before, u64 value) {
    char text[24];
    int at = 24;
    text[--at] = 0;
    text[--at] = '\n';
    do
        text[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    say(before);
    say(text + at);
}
static void fail(const char* why) {
    say(why);
    for (;;)
        out8(0xf4, 1);
}

// --- virtio 1.2: 4.2 (MMIO), 2.7 (split queue), 5.2 (block) ---

static const u64 device = 0xc0001000;
static u32 get(u32 at) { return *(volatile u32*)(device + at); }
static void put(u32 at, u32 value) { *(volatile u32*)(device + at) = value; }

struct Descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};
static volatile struct {
    struct Descriptor table[queue_size];
} descriptors __attribute__((aligned(4096)));
static volatile struct {
    u16 flags, index, ring[queue_size];
} available __attribute__((aligned(4096)));
static volatile struct {
    u16 flags, index;
    struct {
        u32 id, length;
    } ring[queue_size];
} used __attribute__((aligned(4096)));

struct Header {
    u32 type, reserved;
    u64 sector;
};
static struct Header headers[per_flush];
static volatile u8 states[per_flush];
static u64 data[scan_sectors][sector_size / 8] __attribute__((aligned(4096)));

static void barrier(void) { __asm__ volatile("mfence" ::: "memory"); }

static void set_address(u32 at, volatile void* place) {
    put(at, (u32)(u64)place);
    put(at + 4, (u32)((u64)place >> 32));
}

static void start_disk(void) {
    if (get(0) != 0x74726976 || get(4) != 2 || get(8) != 2)
        fail("no disk\n");
    put(0x70, 0);
    put(0x70, 3); // ACKNOWLEDGE, DRIVER
    put(0x14, 0);
    const u32 features = get(0x10) & (1u << 9); // FLUSH
    if (features == 0)
        say("this disk knows no flush\n");
    put(0x24, 0);
    put(0x20, features);
    put(0x24, 1);
    put(0x20, 1); // VERSION_1
    put(0x70, 11);
    put(0x30, 0);
    put(0x38, queue_size);
    set_address(0x80, &descriptors);
    set_address(0x90, &available);
    set_address(0xa0, &used);
    put(0x44, 1);
    put(0x70, 15);
    available.flags = 1; // no interrupts: it looks
}

// Requests of type 0 (read), 1 (write) and 4 (flush): all of them are given to the device, then waited for
static int waiting;

static void add(u32 type, u64 sector, void* place, u32 length) {
    const u16 first = (u16)(waiting * 3);
    headers[waiting] = (struct Header){type, 0, sector};
    states[waiting] = 0xff;
    const int has_data = length != 0;
    descriptors.table[first] = (struct Descriptor){(u64)&headers[waiting], sizeof(struct Header), 1, (u16)(first + 1)};
    if (has_data)
        descriptors.table[first + 1] =
            (struct Descriptor){(u64)place, length, type == 0 ? 3 : 1, (u16)(first + 2)};
    descriptors.table[first + 1 + has_data] = (struct Descriptor){(u64)&states[waiting], 1, 2, 0};
    available.ring[(u16)(available.index + waiting) % queue_size] = first;
    ++waiting;
}

static void finish(void) {
    const u16 until = (u16)(used.index + waiting);
    barrier();
    available.index = (u16)(available.index + waiting);
    barrier();
    put(0x50, 0);
    while (used.index != until)
        __asm__ volatile("pause");
    barrier();
    for (int i = 0; i < waiting; ++i)
        if (states[i] != 0)
            fail("a request failed\n");
    waiting = 0;
}

static u64 word_of(u64 number, u64 index) { return (number * 64 + index) * 0x9e3779b97f4a7c15; }

void writer(void) {
    start_disk();
    const u64 sectors = get(0x100) | (u64)get(0x104) << 32;
    u64 number = 0;
    for (u64 at = 0; at + scan_sectors <= sectors; at += scan_sectors) {
        add(0, at, data, sizeof data);
        finish();
        for (int i = 0; i < scan_sectors; ++i)
            if (data[i][0] == magic && data[i][1] > number)
                number = data[i][1];
    }
    say_number("begin ", number);
    for (;;) {
        for (int i = 0; i < per_flush; ++i) {
            ++number;
            data[i][0] = magic;
            data[i][1] = number;
            for (u64 k = 2; k < sector_size / 8; ++k)
                data[i][k] = word_of(number, k);
            add(1, number % sectors, data[i], sector_size);
        }
        finish();
        if ((get(0x10) & (1u << 9)) != 0) {
            add(4, 0, 0, 0);
            finish();
        }
        say_number("ack ", number);
    }
}

static u8 stack[8192] __attribute__((used, aligned(16)));
__asm__(".globl _start\n_start:\n lea stack+8192(%rip), %rsp\n call writer\n");
