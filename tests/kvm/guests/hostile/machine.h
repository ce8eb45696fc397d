// SPDX-License-Identifier: Apache-2.0
// The machine under hostile.c: exceptions that end the access that raised them, accesses of every width, and what the
// seed makes: numbers and addresses that a device should not like.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

// Exceptions

// An access that faults is over: execution goes on behind it. RAX is lost. NMIs and interrupts return.
u64 recover_rip, recover_rsp;
u64 faults;
struct Trap {
    u64 vector, error, rip;
} trap;

#define GUARDED(instruction)                                                                                           \
    "lea 1f(%%rip), %%r11\n mov %%r11, recover_rip(%%rip)\n mov %%rsp, recover_rsp(%%rip)\n" instruction "\n"          \
    "1: movq $0, recover_rip(%%rip)\n"

__asm__(".pushsection .text\n.balign 16\nstubs:\n.set number, 0\n.rept 32\n.balign 16\n"
        ".if ((0x60227d00 >> number) & 1) == 0\n push $0\n.endif\n" // these push an error code
        "push $number\n jmp common\n.set number, number + 1\n.endr\n"
        ".balign 16\nreturn_stub: iretq\n"
        "common:\n pop trap(%rip)\n pop trap+8(%rip)\n mov (%rsp), %rax\n mov %rax, trap+16(%rip)\n"
        "incq faults(%rip)\n mov recover_rip(%rip), %rax\n test %rax, %rax\n jz own_fault\n"
        "cmp trap+16(%rip), %rax\n je own_fault\n" // again and again
        "mov recover_rsp(%rip), %rsp\n jmp *%rax\n.popsection\n");
extern char stubs[32][16], return_stub;

static u64 idt[256][2];

static void set_gate(int vector, const char* stub) {
    const u64 at = (u64)stub;
    idt[vector][0] = (at & 0xffff) | 0x08UL << 16 | 0x8e00UL << 32 | (at >> 16 & 0xffff) << 48;
    idt[vector][1] = at >> 32;
}

static u64 gdt[3];
static u64 pml4[512] __attribute__((aligned(4096)));
static u64 pdpt[512] __attribute__((aligned(4096)));
static u64 pd[4][512] __attribute__((aligned(4096)));

/// Addresses are physical ones: 4 GiB in pages of 2 MiB, and 508 GiB more in pages of 1 GiB where the CPU has them.
static void set_up_memory(void) {
    for (u64 i = 0; i < 2048; ++i)
        pd[i / 512][i % 512] = i << 21 | 0x83;
    for (u64 i = 0; i < 512; ++i)
        pdpt[i] = i < 4 ? (u64)pd[i] | 3 : i << 30 | 0x83;
    pml4[0] = (u64)pdpt | 3;
    __asm__ volatile("mov %0, %%cr3" ::"r"(pml4) : "memory");
}

static void set_up_cpu(void) {
    gdt[1] = 0x00af9b000000ffff;
    gdt[2] = 0x00cf93000000ffff;
    for (int i = 0; i < 256; ++i)
        set_gate(i, i < 32 && i != 2 ? stubs[i] : &return_stub);
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) gdtr = {sizeof gdt - 1, (u64)gdt}, idtr = {sizeof idt - 1, (u64)idt};
    __asm__ volatile("lgdt %0\n lidt %1\n"
                     "mov $0x10, %%eax\n mov %%eax, %%ds\n mov %%eax, %%es\n mov %%eax, %%ss\n"
                     "push $0x08\n lea 1f(%%rip), %%rax\n push %%rax\n lretq\n1:" ::"m"(gdtr),
                     "m"(idtr)
                     : "rax", "memory");
}

// Accesses

static u64 load(int width, u64 at) {
    u64 value = 0;
    switch (width) {
    case 1:
        __asm__ volatile(GUARDED("movb (%1), %%al") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
        break;
    case 2:
        __asm__ volatile(GUARDED("movw (%1), %%ax") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
        break;
    case 4:
        __asm__ volatile(GUARDED("movl (%1), %%eax") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
        break;
    default:
        __asm__ volatile(GUARDED("movq (%1), %%rax") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
    }
    return value;
}
static void store(int width, u64 at, u64 value) {
    switch (width) {
    case 1:
        __asm__ volatile(GUARDED("movb %%al, (%1)") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
        break;
    case 2:
        __asm__ volatile(GUARDED("movw %%ax, (%1)") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
        break;
    case 4:
        __asm__ volatile(GUARDED("movl %%eax, (%1)") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
        break;
    default:
        __asm__ volatile(GUARDED("movq %%rax, (%1)") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
    }
}
/// An access of another kind to the same bytes; string instructions make several.
static void odd_access(unsigned kind, u64 at, u64 value, u64 memory) {
    u64 count = value % 24, to = at, from = memory;
    switch (kind % 5) {
    case 0:
        __asm__ volatile(GUARDED("xchgl %%eax, (%1)") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
        break;
    case 1:
        __asm__ volatile(GUARDED("orl %%eax, (%1)") : "+a"(value) : "D"(at) : "r11", "memory", "cc");
        break;
    case 2:
        __asm__ volatile(GUARDED("rep stosl") : "+a"(value), "+D"(to), "+c"(count)::"r11", "memory", "cc");
        break;
    case 3:
        __asm__ volatile(GUARDED("rep movsb") : "+a"(value), "+D"(to), "+S"(from), "+c"(count)::"r11", "memory", "cc");
        break;
    default:
        __asm__ volatile(GUARDED("rep movsq") : "+a"(value), "+D"(from), "+S"(to), "+c"(count)::"r11", "memory", "cc");
    }
}

static u32 in(int width, u16 port) {
    u64 value = 0;
    if (width == 1)
        __asm__ volatile("inb %%dx, %%al" : "+a"(value) : "d"(port));
    else if (width == 2)
        __asm__ volatile("inw %%dx, %%ax" : "+a"(value) : "d"(port));
    else
        __asm__ volatile("inl %%dx, %%eax" : "+a"(value) : "d"(port));
    return (u32)value;
}
static void out(int width, u16 port, u32 value) {
    if (width == 1)
        __asm__ volatile("outb %%al, %%dx" ::"a"(value), "d"(port));
    else if (width == 2)
        __asm__ volatile("outw %%ax, %%dx" ::"a"(value), "d"(port));
    else
        __asm__ volatile("outl %%eax, %%dx" ::"a"(value), "d"(port));
}

static void say(const char* text) {
    while (*text)
        out(1, 0x3f8, (u8)*text++);
}
static void say_number(u64 value) {
    char text[21];
    int at = 20;
    text[at] = 0;
    do
        text[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    say(text + at);
}
static void end(u8 code) {
    for (;;)
        out(1, 0xf4, code);
}
/// The port prints again, whatever was written to its registers.
static void restore_serial(void) {
    out(1, 0x3fb, 3);
    out(1, 0x3fc, 0);
    out(1, 0x3f9, 0);
}
/// A fault outside a guarded access: the guest's own, or memory that a device wrote to.
__attribute__((used)) static void own_fault_at(void) {
    restore_serial();
    say("\nhostile: fault of its own, vector ");
    say_number(trap.vector);
    say(", error ");
    say_number(trap.error);
    say(" at ");
    say_number(trap.rip);
    say("\n");
    end(3);
}
__asm__(".pushsection .text\nown_fault:\n lea stack_end(%rip), %rsp\n call own_fault_at\n.popsection\n");

// What the seed makes

static u64 random_state;
static u64 random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1d;
}
static u64 below(u64 limit) { return (random() >> 16) % limit; }
static int one_in(u64 count) { return below(count) == 0; }
static int any_width(void) { return 1 << below(4); }

// Devices write to memory from SCRATCH on only: the guest itself lies below it.
#define SCRATCH 0x400000UL
static u64 ram_end = 0x4000000; ///< RAM has at least SCRATCH and four MiB more

/// A place in memory that the guest may lose.
static u64 scratch(void) { return SCRATCH + below(ram_end - SCRATCH); }

static const u64 places[] = {
    0xc0000000, // virtio-mmio
    0xc1fff000, // PASID commands
    0xc2000000, // BARs
    0xdffff000, // the last page for BARs
    0xe0000000, // ECAM
    0xe0100000, // behind it
    0xfec00000, // IO-APIC
    0xfee00000, // local APIC and MSIs
    0xfffbc000, // KVM's own pages on Intel
    0xfffff000,         0x100000000,
    0x4000000000, // the window for 64-bit BARs
    0x7ffffff000,       0xfffffffff000, 1UL << 47,          1UL << 52,
    0x7ffffffffffff000, 1UL << 63,      0xffffffff80000000, 0xfffffffffffff000,
};

/// For a device's DMA: scratch memory mostly, else where there is none.
static u64 address(void) {
    static const u16 masks[] = {0, 1, 3, 15, 63, 4095};
    const u64 aligned = ~(u64)masks[below(6)];
    switch (below(12)) {
    case 0:
        return places[below(sizeof places / sizeof *places)] + (below(0x1000) & aligned);
    case 1:
        return places[below(sizeof places / sizeof *places)] - 1 - below(64);
    case 2:
        return ram_end - 1 - (below(64) & aligned);
    case 3:
        return ram_end + (below(1UL << 32) & aligned);
    case 4:
        return ~(below(1UL << 16) & aligned);
    case 5:
        return (random() | 1UL << 40) & aligned;
    default:
        return scratch() & aligned;
    }
}

static u64 value(void) {
    switch (below(12)) {
    case 0:
        return 0;
    case 1:
        return ~0UL;
    case 2:
        return 1;
    case 3:
        return 1UL << below(64);
    case 4:
        return (1UL << below(64)) - 1;
    case 5:
        return ~(1UL << below(64));
    case 6:
        return below(256);
    case 7:
        return -below(256);
    case 8:
        return address();
    default:
        return random();
    }
}

static void copy(u64 to, const void* from, u64 size) {
    for (u64 i = 0; i < size; ++i)
        ((volatile u8*)to)[i] = ((const u8*)from)[i];
}
