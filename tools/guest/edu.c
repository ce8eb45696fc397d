// SPDX-License-Identifier: Apache-2.0
// A guest without an operating system that drives QEMU's edu device (1234:11e8) as far as it goes: registers,
// interrupts by its pin and by MSI, and DMA. Writes a line for each step to COM1 and ends with 0, or with the number of
// the step that went wrong. Entered as Linux's 64-bit boot protocol says, with the first 4 GiB mapped 1:1.
//   gcc -ffreestanding -fno-pie -mno-red-zone -mgeneral-regs-only -fno-stack-protector -fcf-protection=none -O1
//       -nostdlib -static -no-pie -Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack -o edu edu.c

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { com1 = 0x3f8, port_exit = 0xf4 };
enum { ecam = 0xe0000000, io_apic = 0xfec00000, local_apic = 0xfee00000 };
enum { vector_pin = 0x40, vector_msi = 0x41, vector_spurious = 0xff };
enum { rounds = 20 };

// edu's registers (QEMU, docs/specs/edu).
enum {
    edu_id = 0x00,
    edu_live = 0x04,
    edu_factorial = 0x08,
    edu_status = 0x20,
    edu_irq = 0x24,
    edu_raise = 0x60,
    edu_ack = 0x64
};
enum { edu_dma_from = 0x80, edu_dma_to = 0x88, edu_dma_count = 0x90, edu_dma_command = 0x98, edu_buffer = 0x40000 };
enum { dma_start = 1, dma_to_memory = 2, dma_interrupt = 4, dma_raises = 0x100 };

static u8* edu;
static volatile u32 pin_count, msi_count, last_cause, spurious;
static u8 stack[8192] __attribute__((aligned(16), used));
static u8 source[2048] __attribute__((aligned(4096)));
static u8 target[2048] __attribute__((aligned(4096)));

asm(".globl _start\n_start: lea stack+8192(%rip), %rsp\n call run\n");

static void out8(u16 port, u8 value) { asm volatile("outb %0, %1" : : "a"(value), "d"(port)); }
static u32 get(u64 address) { return *(volatile u32*)address; }
static void set(u64 address, u32 value) { *(volatile u32*)address = value; }
static u32 edu_get(u32 reg) { return get((u64)edu + reg); }
static void edu_set(u32 reg, u32 value) { set((u64)edu + reg, value); }
static void edu_set64(u32 reg, u64 value) { *(volatile u64*)(edu + reg) = value; }

static void text(const char* line) {
    while (*line)
        out8(com1, (u8)*line++);
}

static void number(u32 value) {
    char digits[11], *at = digits + 10;
    *at = 0;
    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    text(at);
}

static void end(u8 code) {
    out8(port_exit, code);
    for (;;)
        asm volatile("hlt");
}

static void step(u8 which, const char* name, int good) {
    text(good ? "edu: PASS " : "edu: FAIL ");
    text(name);
    text(" (pin ");
    number(pin_count);
    text(", msi ");
    number(msi_count);
    text(")\r\n");
    if (!good)
        end(which);
}

struct frame;

static void acknowledge(void) {
    last_cause = edu_get(edu_irq);
    if (!last_cause)
        ++spurious;
    edu_set(edu_ack, last_cause);
    (void)edu_get(edu_irq); // the pin is low before the interrupt controller looks again
    set(local_apic + 0xb0, 0);
}
__attribute__((interrupt)) static void on_pin(struct frame* frame) {
    (void)frame;
    acknowledge();
    ++pin_count;
}
__attribute__((interrupt)) static void on_msi(struct frame* frame) {
    (void)frame;
    acknowledge();
    ++msi_count;
}
__attribute__((interrupt)) static void on_spurious(struct frame* frame) { (void)frame; }

static struct __attribute__((packed)) {
    u16 low, selector;
    u8 stack_table, type;
    u16 middle;
    u32 high, zero;
} gates[256];

static void gate(u8 vector, void (*handler)(struct frame*)) {
    const u64 address = (u64)handler;
    u16 selector;
    asm volatile("mov %%cs, %0" : "=r"(selector));
    gates[vector].low = (u16)address;
    gates[vector].selector = selector;
    gates[vector].type = 0x8e;
    gates[vector].middle = (u16)(address >> 16);
    gates[vector].high = (u32)(address >> 32);
}

static u64 now(void) {
    u32 low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}

// Up to some seconds.
static int reaches(volatile u32* counter, u32 wanted) {
    const u64 until = now() + 20000000000;
    asm volatile("sti");
    while (*counter < wanted && now() < until)
        asm volatile("pause");
    asm volatile("cli");
    return *counter == wanted;
}

static void copy(u64 from, u64 to, u32 count, u32 command) {
    edu_set64(edu_dma_from, from);
    edu_set64(edu_dma_to, to);
    edu_set64(edu_dma_count, count);
    edu_set64(edu_dma_command, dma_start | command);
}

static u64 find(void) {
    for (u32 function = 0; function < 256; ++function)
        if (get(ecam + function * 0x1000) == 0x11e81234)
            return ecam + function * 0x1000UL;
    return 0;
}

static u32 find_capability(u64 config, u8 id) {
    for (u32 at = get(config + 0x34) & 0xff; at; at = get(config + at) >> 8 & 0xff)
        if ((get(config + at) & 0xff) == id)
            return at;
    return 0;
}

__attribute__((used)) static void run(void) {
    gate(vector_pin, on_pin);
    gate(vector_msi, on_msi);
    gate(vector_spurious, on_spurious);
    const struct __attribute__((packed)) {
        u16 limit;
        u64 base;
    } table = {sizeof gates - 1, (u64)gates};
    asm volatile("lidt %0" : : "m"(table));
    set(local_apic + 0xf0, 0x100 | vector_spurious);

    const u64 config = find();
    step(1, "is on the bus", config != 0);
    set(config + 4, 0x6);
    edu = (u8*)(u64)(get(config + 0x10) & ~0xfU);
    edu_set(edu_live, 0x12345678);
    step(2, "answers", edu_get(edu_id) == 0x010000ed && edu_get(edu_live) == ~0x12345678U);
    edu_set(edu_factorial, 10);
    while (edu_get(edu_status) & 1)
        asm volatile("pause");
    step(3, "computes", edu_get(edu_factorial) == 3628800);

    const u32 gsi = get(config + 0x3c) & 0xff;
    set(io_apic, 0x11 + 2 * gsi);
    set(io_apic + 0x10, 0);
    set(io_apic, 0x10 + 2 * gsi);
    set(io_apic + 0x10, vector_pin | 1 << 15);
    for (u32 i = 1; i <= rounds; ++i) {
        edu_set(edu_raise, i);
        if (!reaches(&pin_count, i) || last_cause != i)
            break;
    }
    step(4, "interrupts by its pin", pin_count == rounds && last_cause == rounds);

    const u32 msi = find_capability(config, 5);
    step(5, "has MSI", msi != 0);
    const int wide = get(config + msi) >> 16 & 0x80;
    set(config + msi + 4, local_apic);
    set(config + msi + (wide ? 12 : 8), vector_msi);
    set(config + msi, get(config + msi) | 1 << 16);
    for (u32 i = 1; i <= rounds; ++i) {
        edu_set(edu_raise, i);
        if (!reaches(&msi_count, i) || last_cause != i)
            break;
    }
    step(6, "interrupts by MSI", msi_count == rounds && pin_count == rounds && last_cause == rounds);

    for (u32 i = 0; i < sizeof source; ++i)
        source[i] = (u8)(i * 7 + 3);
    copy((u64)source, edu_buffer, sizeof source, dma_interrupt);
    const int there = reaches(&msi_count, rounds + 1) && last_cause == dma_raises;
    copy(edu_buffer, (u64)target, sizeof target, dma_interrupt | dma_to_memory);
    const int back = reaches(&msi_count, rounds + 2) && last_cause == dma_raises;
    int equal = 1;
    for (u32 i = 0; i < sizeof source; ++i)
        equal = equal && target[i] == source[i];
    step(7, "copies by DMA", there && back && equal);

    // Back to the pin.
    set(config + msi, get(config + msi) & ~(1U << 16));
    edu_set(edu_raise, 77);
    step(8, "interrupts by its pin again", reaches(&pin_count, rounds + 1) && last_cause == 77 && !spurious);
    end(0);
}
