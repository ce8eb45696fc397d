// SPDX-License-Identifier: Apache-2.0
// A second CPU with the same program: its page tables show it a copy of the image at the image's address, so everything
// static is its own.
#pragma once
#include "virtio.h"

#define COPY 0x200000UL // 2 MiB for the copy; the last bytes before SCRATCH are what both CPUs share
#define START 0x8000UL  // where it begins, in real mode
static volatile u64* const shared = (volatile u64*)(SCRATCH - 64);
enum { off, ready, running, wanted, over };

u64 second_pml4[512] __attribute__((aligned(4096)));
u64 second_pdpt[512] __attribute__((aligned(4096)));
u64 second_pd[512] __attribute__((aligned(4096)));

__asm__(".pushsection .text\n.code16\nreal_mode:\n cli\n mov %cs, %ax\n mov %ax, %ds\n"
        "lgdtl real_gdtr - real_mode\n"
        "mov $0x20, %eax\n mov %eax, %cr4\n mov $second_pml4, %eax\n mov %eax, %cr3\n"
        "mov $0xc0000080, %ecx\n rdmsr\n or $0x100, %eax\n wrmsr\n"
        "mov $0x80000011, %eax\n mov %eax, %cr0\n ljmpl *(real_target - real_mode)\n"
        "real_gdtr: .word 23\n .long gdt\nreal_target: .long long_mode\n .word 8\nreal_end:\n"
        ".code64\nlong_mode:\n mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n"
        "lea stack_end(%rip), %rsp\n call second_cpu\n.popsection\n");
extern char real_mode[], real_end[], _end[];

static void attack_once(void);
static u64 second_steps;

__attribute__((used)) static void second_cpu(void) {
    set_up_cpu();
    take_from += 0x200000;
    random_state ^= 0x5deece66d;
    *shared = ready;
    while (*shared == ready)
        (void)in(1, 0x80);
    for (u64 i = 0; i < second_steps && *shared == running; ++i)
        attack_once();
    *shared = over;
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void start_second(u64 steps) {
    second_steps = steps;
    *shared = off;
    for (u64 i = 0; i < 512; ++i) {
        second_pml4[i] = pml4[i];
        second_pdpt[i] = pdpt[i];
        second_pd[i] = pd[0][i];
    }
    second_pml4[0] = (u64)second_pdpt | 3;
    second_pdpt[0] = (u64)second_pd | 3;
    second_pd[0] = COPY | 0x83;
    copy(START, real_mode, (u64)(real_end - real_mode));
    copy(COPY + START, real_mode, (u64)(real_end - real_mode));
    copy(COPY + 0x100000, (const void*)0x100000, (u64)_end - 0x100000);
    store(4, 0xfee00300, 0xc4500); // INIT, then SIPI, to all others
    for (int i = 0; i < 100; ++i)
        (void)in(1, 0x80);
    store(4, 0xfee00300, 0xc4600 | START >> 12);
    for (int i = 0; i < 20000 && *shared == off; ++i)
        (void)in(1, 0x80);
    if (*shared == off)
        return;
    say("hostile: two CPUs\n"); // while nobody else plays with the port
    *shared = running;
}

static void stop_second(void) {
    if (*shared == running)
        *shared = wanted;
    for (int i = 0; i < 100000 && *shared == wanted; ++i)
        (void)in(1, 0x80);
}
