// SPDX-License-Identifier: Apache-2.0
// PASIDs and the accelerator: commands, page tables, queues, descriptors by stores and by the CPU's instructions.
#pragma once
#include "pci.h"
#include "virtio.h"

#define COMMANDS 0xc1fff000UL
#define VIRTUAL 0x7f0000000000UL

static u64 pasid_command(u64 word, u64 operand) {
    store(8, COMMANDS + 0xe08, operand);
    store(8, COMMANDS + 0xe00, word);
    u64 response = 1;
    for (int i = 0; i < 100 && (response & 1) != 0; ++i)
        response = load(8, COMMANDS + 0xe10);
    return response;
}

static u64 pasids[16];

/// Four levels for one region; entries that lead nowhere, to themselves or to large pages, now and then.
static u64 make_tables(void) {
    u64 at[4];
    for (int level = 0; level < 4; ++level) {
        at[level] = take(4096, 4096);
        for (u64 i = 0; i < 8; ++i)
            store(8, at[level] + 8 * i, one_in(4) ? address() | below(0x1000) : (scratch() & ~0xfffUL) | 7);
    }
    store(8, at[0] + (VIRTUAL >> 39 & 511) * 8, at[1] | 7);
    store(8, at[1], one_in(16) ? at[0] | 7 : at[2] | 7);
    store(8, at[2], one_in(8) ? (scratch() & ~0x1fffffUL) | 0x87 : at[3] | 7);
    return at[0];
}

static u64 registers, portals, accelerator; ///< registers: 0 without one

static u64 some_endpoint(void) {
    if (one_in(2))
        return accelerator;
    return one_in(4) ? random() & 0xffff : functions[below(function_count + 1)].place;
}

static void attack_pasids(unsigned commands) {
    for (unsigned i = 0; i < commands; ++i) {
        u64* const pasid = &pasids[below(16)];
        const u64 which = one_in(8) ? random() & 0xfffff : *pasid;
        const u64 head = which << 16 | some_endpoint() << 36;
        switch (below(9)) {
        case 0:
        case 1:
            if (*pasid == 0)
                *pasid = pasid_command(1 | (one_in(4) ? below(0x200000) << 16 : 0), 0) >> 16 & 0xfffff;
            break;
        case 2:
            (void)pasid_command(2 | which << 16, 0);
            *pasid = 0;
            break;
        case 3:
        case 4:
            (void)pasid_command(0xc0 | head | (one_in(2) ? below(16) : 0) << 52, one_in(4) ? address() : make_tables());
            break;
        case 5:
            (void)pasid_command(0xc1 | head, value());
            break;
        case 6:
            (void)pasid_command(0xc2 | head, one_in(2) ? 0 : value());
            break;
        case 7:
            (void)pasid_command(value(), value());
            break;
        default:
            (void)load(any_width(), COMMANDS + below(0x1000));
            store(any_width(), COMMANDS + below(0x1000), value());
        }
    }
}

static void find_accelerator(void) {
    for (unsigned i = 0; i < function_count; ++i)
        if (is_accelerator(&functions[i])) {
            registers = functions[i].at[0];
            portals = functions[i].at[2];
            accelerator = functions[i].place;
            for (u32 at = 0x100; at != 0; at = read_config(functions[i].place, at) >> 20) {
                const u16 id = (u16)read_config(functions[i].place, at);
                if (id == 0x1b)
                    write_config(functions[i].place, at + 4, 5U << 16);
                else if (id == 0x0f || id == 0x13)
                    write_config(functions[i].place, at + 4, 1U << 31 | 1);
            }
        }
}

static void command(u32 what) {
    store(4, registers + 0xa0, what);
    for (int i = 0; i < 200 && (load(4, registers + 0xa8) >> 31) != 0; ++i)
        ;
}

static void start_accelerator(void) {
    command(5U << 20);
    for (u32 queue = 0; queue < 2; ++queue) {
        const u64 at = registers + 0x600 + 0x20 * queue;
        store(4, at, one_in(16) ? value() : 16);
        store(4, at + 4, one_in(16) ? value() : 8);
        store(4, at + 8, one_in(16) ? value() : 10U << 4 | (queue == 0 ? 1U << 28 : 1) | (one_in(16) ? 3U << 28 : 0));
        store(4, at + 12, one_in(16) ? value() : (u32)below(32) | below(12) << 5);
    }
    store(8, registers + 0x400, one_in(16) ? value() : 3);
    store(8, registers + 0x420, one_in(16) ? value() : 1);
    command(1U << 20);
    command(6U << 20);
    command(6U << 20 | 1);
}

static u64 where(void) { return one_in(3) ? VIRTUAL + below(0x10000) : address(); }
static u64 describe(void) {
    const u64 at = take(64, 64);
    fill(at, 64);
    const u32 operation = one_in(4) ? (u32)random() & 0xff : (u32)below(10);
    store(4, at, one_in(4) ? value() : one_in(2) ? pasids[0] : pasids[below(16)]);
    store(4, at + 4, operation << 24 | (one_in(4) ? (u32)random() & 0xffffff : 0xc));
    store(8, at + 8, where() & ~31UL); // completion
    store(8, at + 16, where());
    store(8, at + 24, where());
    store(4, at + 32, one_in(4) ? value() : below(0x4000));
    store(4, at + 36, one_in(4) ? value() : 0);
    if (!one_in(4))
        for (u64 i = 40; i < 64; i += 8)
            store(8, at + i, one_in(2) ? 0 : where());
    return at;
}

static void attack_accelerator(unsigned descriptors_wanted) {
    if (registers == 0)
        return;
    find_accelerator(); // its PASIDs may have been turned off
    if (one_in(2) || (load(4, registers + 0x90) & 3) == 0)
        start_accelerator();
    if (pasids[0] == 0)
        pasids[0] = pasid_command(1, 0) >> 16 & 0xfffff;
    (void)pasid_command(0xc0 | pasids[0] << 16 | accelerator << 36, make_tables());
    for (unsigned i = 0; i < descriptors_wanted; ++i) {
        const u64 from = describe();
        u64 to = portals + below(8) * 0x1000 + below(64) * 64;
        if (one_in(8))
            to += below(64);
        u64 dead = 0;
        u64 low = one_in(4) ? random() : 1U << 31 | pasids[one_in(2) ? 0 : below(16)], index = 0xd93;
        switch (below(6)) {
        case 0:
        case 1:
        case 2:
            for (u64 byte = 0; byte < 64; byte += 8)
                store(8, to + byte, load(8, from + byte));
            (void)load(4, to);
            break;
        case 3:
            __asm__ volatile(GUARDED("wrmsr") : "+a"(low) : "c"(index), "d"(0) : "r11", "memory");
            __asm__ volatile(GUARDED("enqcmd (%2), %1") : "+a"(dead) : "D"(to), "S"(from) : "r11", "memory", "cc");
            break;
        case 4:
            __asm__ volatile(GUARDED("enqcmds (%2), %1") : "+a"(dead) : "D"(to), "S"(from) : "r11", "memory", "cc");
            break;
        default:
            __asm__ volatile(GUARDED("movdir64b (%2), %1") : "+a"(dead) : "D"(to), "S"(from) : "r11", "memory");
        }
        if (one_in(24))
            command((u32)(one_in(2) ? value() : below(16) << 20 | below(4)));
        if (one_in(24))
            store(4, registers + below(0x800), value());
    }
}
