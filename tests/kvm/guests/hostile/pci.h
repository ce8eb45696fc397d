// SPDX-License-Identifier: Apache-2.0
// Configuration space by both mechanisms, BARs wherever the guest puts them, and their registers.
#pragma once
#include "machine.h"

#define ECAM 0xe0000000UL

struct Function {
    u32 place; ///< slot 7:3, function 2:0
    u32 id;
    u32 command, bars[6];
    u64 at[6], size[6]; ///< 0: no such BAR
};
static struct Function functions[40];
static unsigned function_count;

static u64 config(u32 place, u32 offset) { return ECAM + place * 0x1000UL + offset; }
static u32 read_config(u32 place, u32 offset) { return (u32)load(4, config(place, offset)); }
static void write_config(u32 place, u32 offset, u32 what) { store(4, config(place, offset), what); }

static int is_pvpanic(const struct Function* f) { return f->id == 0x00111b36; }
static int is_accelerator(const struct Function* f) { return f->id == 0x0b258086; }
static int is_virtio(const struct Function* f) { return (f->id & 0xffff) == 0x1af4; }

/// As it was found, however it was changed.
static void restore(const struct Function* f) {
    write_config(f->place, 4, 0);
    for (unsigned i = 0; i < 6; ++i)
        write_config(f->place, 0x10 + 4 * i, f->bars[i]);
    write_config(f->place, 4, f->command);
}

static u64 low_bars = 0xc8000000; ///< 64-bit BARs move below 4 GiB: not every CPU has pages of 1 GiB

static void measure(struct Function* f) {
    const u32 place = f->place;
    f->command = read_config(place, 4) | 6;
    write_config(place, 4, 0);
    for (unsigned i = 0; i < 6; ++i)
        f->bars[i] = read_config(place, 0x10 + 4 * i);
    for (unsigned i = 0; i < 6; ++i) {
        const u32 low = f->bars[i];
        write_config(place, 0x10 + 4 * i, ~0U);
        u64 mask = read_config(place, 0x10 + 4 * i) & ~15UL;
        f->at[i] = low & ~15UL;
        if ((low & 1) != 0 || mask == 0)
            continue;
        mask |= 0xffffffff00000000;
        if ((low & 6) == 4 && i < 5) {
            write_config(place, 0x14 + 4 * i, ~0U);
            mask = (mask & 0xffffffff) | (u64)read_config(place, 0x14 + 4 * i) << 32;
            f->size[i] = -mask;
            f->at[i] = low_bars = (low_bars + f->size[i] - 1) & mask;
            low_bars += f->size[i];
            f->bars[i] = (u32)f->at[i] | (low & 15);
            f->bars[++i] = 0;
            continue;
        }
        f->size[i] = -mask;
    }
    restore(f);
}

static void find_functions(void) {
    for (u32 place = 0; place < 256 && function_count < 40; ++place) {
        const u32 id = read_config(place, 0);
        if ((u16)id == 0xffff)
            continue;
        struct Function* const f = &functions[function_count++];
        f->place = place;
        f->id = id;
        measure(f);
    }
}

/// One access to configuration space; a BAR is given an address that it should not have, now and then.
static void access_config(u32 place, u32 offset, int width) {
    u64 what = value();
    if (offset >= 0x10 && offset < 0x28 && one_in(2)) {
        const struct Function* const other = &functions[below(function_count)];
        what = one_in(2) ? address() : other->at[below(6)] + (one_in(2) ? 0 : below(0x20000));
    }
    if (one_in(2)) {
        if (one_in(4))
            store(width, config(place, offset), what);
        else
            (void)load(width, config(place, offset));
        store(width, config(place, offset), what);
        return;
    }
    const u32 select = 1U << 31 | (offset & 0xf00) << 16 | place << 8 | (offset & 0xfc);
    out(4, 0xcf8, one_in(16) ? (u32)random() : select);
    const u16 port = 0xcfc + (offset & 3);
    (void)in(width > 4 ? 4 : width, port);
    out(width > 4 ? 4 : width, port, (u32)what);
}

/// The first bytes one by one, then places anywhere; `changes` of them.
static void attack_config(const struct Function* f, unsigned changes) {
    const u32 start = (u32)below(0x100);
    for (unsigned i = 0; i < changes; ++i)
        access_config(f->place, one_in(3) ? (u32)below(0x1000) : (start + i) % 0x100, any_width());
    if (is_virtio(f)) // the BAR through configuration space
        for (u32 at = read_config(f->place, 0x34) & 0xfc; at != 0; at = read_config(f->place, at) >> 8 & 0xfc)
            if ((read_config(f->place, at) & 0xff0000ff) == 0x05000009) {
                store(1, config(f->place, at + 4), one_in(4) ? random() : 0);
                write_config(f->place, at + 8, one_in(4) ? (u32)value() : (u32)below(0x10000));
                write_config(f->place, at + 12, one_in(4) ? (u32)value() : 1U << below(3));
                store(any_width(), config(f->place, at + 16), below(0x10));
                (void)load(any_width(), config(f->place, at + 16));
            }
    // Decoding off and on with wherever the BARs are now
    write_config(f->place, 4, (u32)value());
    write_config(f->place, 4, 6);
    for (unsigned i = 0; i < 6; ++i)
        if (f->size[i] != 0)
            (void)load(any_width(), f->at[i] + below(f->size[i]));
    restore(f);
}

static void move_all_together(void) {
    const u64 at = one_in(2) ? address() : functions[below(function_count)].at[below(6)];
    for (unsigned i = 0; i < function_count; ++i)
        for (u32 bar = 0; bar < 6; ++bar)
            write_config(functions[i].place, 0x10 + 4 * bar, (u32)(bar & 1 ? at >> 32 : at));
    (void)load(any_width(), at >= ram_end ? at : ram_end);
    for (unsigned i = 0; i < function_count; ++i)
        restore(&functions[i]);
}

/// Vectors are delivered as plain interrupts: INIT and SMI would take the CPU away from this program.
static u64 tame_message(u64 table, u64 offset, u64 what) {
    return offset >= table && (offset & 15) >= 6 && (offset & 15) < 12 ? 0x4041 : what;
}

static void access_bar(const struct Function* f, unsigned bar, u64 offset) {
    const int width = any_width();
    const u64 table = is_accelerator(f) && bar == 0 ? 0x1000 : is_virtio(f) ? 0x8000 : ~0UL;
    if (one_in(2))
        (void)load(width, f->at[bar] + offset);
    else
        store(width, f->at[bar] + offset, tame_message(table, offset, value()));
    if (one_in(16) && offset < table)
        odd_access((unsigned)random(), f->at[bar] + offset, value(), scratch() & ~0xfffUL);
}

/// Registers in order from a random one, places anywhere, and accesses across the end.
static void attack_bars(const struct Function* f, unsigned accesses) {
    static const u16 pages[] = {0, 0, 0, 0x1000, 0x2000, 0x3000, 0x8000, 0xf000};
    for (unsigned bar = 0; bar < 6; ++bar) {
        const u64 size = f->size[bar];
        if (size == 0 || is_pvpanic(f))
            continue;
        const u64 start = pages[below(8)];
        for (unsigned i = 0; i < accesses; ++i)
            access_bar(f, bar, (one_in(4) ? below(size) : start + i) % size);
        for (unsigned i = 1; i < 8; ++i)
            access_bar(f, bar, size - i);
    }
}
