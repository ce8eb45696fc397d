// SPDX-License-Identifier: Apache-2.0
// The machine under enqcmd.c: console, exceptions that end in a jump, page tables, rings.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

// Machine

static void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static u8 inb(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static void say(const char* text) {
    while (*text)
        outb(0x3f8, (u8)*text++);
}
static void say_number(u64 value) {
    char text[20];
    int at = 20;
    text[--at] = 0;
    do
        text[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    say(text + at);
}
static void say_hex(u64 value) {
    for (int shift = 60; shift >= 0; shift -= 4)
        outb(0x3f8, (u8)("0123456789abcdef"[value >> shift & 15]));
}
static void end(u8 code) {
    for (;;)
        outb(0xf4, code);
}

struct Trap {
    u64 vector, error, cr2, rip, rflags;
} trap;
u64 recover_rip, recover_rsp;

static void check_at(int good, int line) {
    if (good)
        return;
    say("\nwrong at line ");
    say_number((u64)line);
    say(" vector ");
    say_number(trap.vector);
    say(" error ");
    say_hex(trap.error);
    say(" cr2 ");
    say_hex(trap.cr2);
    say(" rip ");
    say_hex(trap.rip);
    say("\n");
    end(1);
}
#define CHECK(x) check_at((x) != 0, __LINE__)
#define STEP(text) say(text "\n")

static u64 rd64(u64 at) { return *(volatile u64*)at; }
static u32 rd32(u64 at) { return *(volatile u32*)at; }
static void wr64(u64 at, u64 value) { *(volatile u64*)at = value; }
static void wr32(u64 at, u32 value) { *(volatile u32*)at = value; }

// Every exception ends in `recover`, with what is known in `trap`. RAX and RCX are lost.
__asm__(".pushsection .text\n"
        ".macro stub number has_error\n"
        "stub_\\number:\n"
        ".if \\has_error == 0\n push $0\n.endif\n"
        "push $\\number\n"
        "jmp common\n"
        ".endm\n"
        "stub 6 0\nstub 8 1\nstub 10 1\nstub 11 1\nstub 12 1\nstub 13 1\nstub 14 1\n"
        "common:\n"
        "pop trap(%rip)\n"      // vector
        "pop trap+8(%rip)\n"    // error
        "mov (%rsp), %rax\n"
        "mov %rax, trap+24(%rip)\n"
        "mov 16(%rsp), %rax\n"
        "mov %rax, trap+32(%rip)\n"
        "mov %cr2, %rax\n"
        "mov %rax, trap+16(%rip)\n"
        "mov recover_rsp(%rip), %rsp\n"
        "mov recover_rip(%rip), %rax\n"
        "jmp *%rax\n"
        ".popsection\n");
extern char stub_6, stub_8, stub_10, stub_11, stub_12, stub_13, stub_14;

enum { faulted = 2 }; ///< instead of the zero flag

#define ATTEMPT(instruction, destination, source)                                                                     \
    ({                                                                                                                \
        u32 zero_;                                                                                                    \
        trap.vector = 0;                                                                                              \
        __asm__ volatile("lea 1f(%%rip), %%rcx\n mov %%rcx, recover_rip(%%rip)\n mov %%rsp, recover_rsp(%%rip)\n"     \
                         "xor %%eax, %%eax\n" instruction "\n setz %%al\n jmp 2f\n1: mov $2, %%eax\n2:"                \
                         : "=&a"(zero_)                                                                               \
                         : "D"((u64)(destination)), "S"((u64)(source))                                                \
                         : "rcx", "memory", "cc");                                                                    \
        zero_;                                                                                                        \
    })
#define ENQCMD(destination, source) ATTEMPT("enqcmd (%%rsi), %%rdi", destination, source)
#define ENQCMDS(destination, source) ATTEMPT("enqcmds (%%rsi), %%rdi", destination, source)
#define MOVDIR64B(destination, source) ATTEMPT("movdir64b (%%rsi), %%rdi", destination, source)

static u32 write_msr(u32 index, u64 value) {
    return ATTEMPT("mov %%esi, %%eax\n mov %%rsi, %%rdx\n shr $32, %%rdx\n mov %%edi, %%ecx\n wrmsr\n xor %%eax, %%eax",
                   index, value);
}
static u64 read_msr(u32 index) {
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
    return low | (u64)high << 32;
}

// Memory map

#define RAM_USER 0x400000UL   // user pages, 2 MiB: code for ring 3, descriptors
#define RAM_ABSENT 0x600000UL // not mapped, 2 MiB
#define RAM_DATA 0x800000UL   // what PASIDs map, 4 MiB
#define REGISTERS 0xc8000000UL
#define PORTALS 0xc8200000UL // user, as Linux maps them
#define COMMANDS 0xc1fff000UL
#define ECAM 0xe0000000UL

static u64 pml4[512] __attribute__((aligned(4096)));
static u64 pdpt[512] __attribute__((aligned(4096)));
static u64 pd[4][512] __attribute__((aligned(4096)));
static u64 tables[16][512] __attribute__((aligned(4096)));
static int tables_used;

static u64 gdt[9];
static u32 tss[26];
static u64 idt[32][2];
static u8 trap_stack[4096] __attribute__((aligned(16)));

static void set_gate(int vector, const char* stub) {
    const u64 at = (u64)stub;
    idt[vector][0] = (at & 0xffff) | 0x08UL << 16 | 0x8e00UL << 32 | (at >> 16 & 0xffff) << 48;
    idt[vector][1] = at >> 32;
}

static void set_up_cpu(void) {
    for (u64 i = 0; i < 2048; ++i)
        pd[i / 512][i % 512] = i << 21 | 0x83;
    pd[0][RAM_USER >> 21] |= 4;
    pd[0][RAM_ABSENT >> 21] = 0;
    pd[3][(PORTALS >> 21) & 511] |= 4;
    for (u64 i = 0; i < 4; ++i)
        pdpt[i] = (u64)pd[i] | 7;
    pml4[0] = (u64)pdpt | 7;
    __asm__ volatile("mov %0, %%cr3" ::"r"(pml4) : "memory");

    const u64 base = (u64)tss;
    gdt[1] = 0x00af9b000000ffff; // 08: ring 0 code
    gdt[2] = 0x00cf93000000ffff; // 10: ring 0 data
    gdt[3] = 0x00cff3000000ffff; // 18: ring 3 data
    gdt[4] = 0x00affb000000ffff; // 20: ring 3 code
    gdt[5] = 103 | (base & 0xffffff) << 16 | 0x89UL << 40 | (base >> 24 & 0xff) << 56;
    gdt[6] = base >> 32;
    gdt[7] = 0x00cf9b000000ffff; // 38: ring 0 code of 32 bits
    const u64 stack = (u64)trap_stack + sizeof trap_stack;
    tss[1] = (u32)stack;
    tss[2] = (u32)(stack >> 32);
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) gdtr = {sizeof gdt - 1, (u64)gdt}, idtr = {sizeof idt - 1, (u64)idt};
    __asm__ volatile("lgdt %0\n"
                     "mov $0x10, %%eax\n mov %%eax, %%ds\n mov %%eax, %%es\n mov %%eax, %%ss\n"
                     "push $0x08\n lea 1f(%%rip), %%rax\n push %%rax\n lretq\n1:"
                     "mov $0x28, %%eax\n ltr %%ax\n" ::"m"(gdtr)
                     : "rax", "memory");
    set_gate(6, &stub_6);
    set_gate(8, &stub_8);
    set_gate(10, &stub_10);
    set_gate(11, &stub_11);
    set_gate(12, &stub_12);
    set_gate(13, &stub_13);
    set_gate(14, &stub_14);
    __asm__ volatile("lidt %0" ::"m"(idtr));
}
