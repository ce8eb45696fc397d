// SPDX-License-Identifier: Apache-2.0
// Virtio devices on either transport: drivers that do everything right up to a point, rings and descriptors that break
// the rules, and registers in any order.
#pragma once
#include "pci.h"

struct Device {
    u64 registers; ///< BAR 0, or the page of virtio-mmio
    u32 type;
    int mmio;
};
static struct Device devices[40];
static unsigned device_count;

enum { net = 1, block, console, entropy, balloon, vsock = 19, iommu = 23, fs = 26 };

enum Field {
    offered_select,
    offered,
    accepted_select,
    accepted,
    queue_select,
    queue_size,
    queue_enable,
    queue_reset,
    status,
    descriptors,
    available,
    used,
    generation,
    interrupts,
    field_count
};
static const u16 pci_fields[field_count] = {0, 4, 8, 12, 22, 24, 28, 58, 20, 32, 40, 48, 21, 0x1000};
static const u8 pci_widths[field_count] = {4, 4, 4, 4, 2, 2, 2, 2, 1, 8, 8, 8, 1, 1};
static const u16 mmio_fields[field_count] = {0x14, 0x10, 0x24, 0x20, 0x30, 0x38, 0x44,
                                             0xc0, 0x70, 0x80, 0x90, 0xa0, 0xfc, 0x60};

static void set(const struct Device* d, enum Field field, u64 what) {
    if (!d->mmio) {
        store(pci_widths[field], d->registers + pci_fields[field], what);
        return;
    }
    store(4, d->registers + (field == interrupts ? 0x64 : mmio_fields[field]), what);
    if (field >= descriptors && field <= used)
        store(4, d->registers + mmio_fields[field] + 4, what >> 32);
}
static u64 get(const struct Device* d, enum Field field) {
    return d->mmio ? load(4, d->registers + mmio_fields[field])
                   : load(pci_widths[field], d->registers + pci_fields[field]);
}
static u64 settings(const struct Device* d) { return d->registers + (d->mmio ? 0x100 : 0x2000); }
static void notify(const struct Device* d, u64 queue) {
    if (d->mmio)
        store(4, d->registers + 0x50, queue);
    else
        store(2, d->registers + 0x3000 + (queue * 4) % 0x1000, queue);
}

static void find_devices(int mmio) {
    for (u64 at = 0xc0000000; mmio && at < 0xc0020000; at += 0x1000)
        if (load(4, at) == 0x74726976)
            devices[device_count++] = (struct Device){at, (u32)load(4, at + 8), 1};
    for (unsigned i = 0; !mmio && i < function_count; ++i)
        if (is_virtio(&functions[i]))
            devices[device_count++] = (struct Device){functions[i].at[0], (functions[i].id >> 16) - 0x1040, 0};
}

// Rings

struct Ring {
    u64 descriptors, available, used;
    u32 size;
    u16 next, index;
};
static struct Ring rings[8];

static u64 take_at, take_from = SCRATCH;
/// The next piece of 2 MiB of scratch memory, over and over
static u64 take(u64 size, u64 alignment) {
    u64 at = (take_at + alignment - 1) & -alignment;
    if (at < take_from || at + size > take_from + 0x200000)
        at = take_from;
    take_at = at + size;
    return at;
}

// Requests

struct Part {
    u64 at;
    u32 length;
    u16 write;
};
#define MOST_PARTS 6
static struct Part parts[MOST_PARTS];
static unsigned part_count;

static u64 add_part(u32 length, int write) {
    const u64 at = take(length < 0x4000 ? length + 8 : 8, 8);
    parts[part_count++] = (struct Part){at, length, (u16)write};
    return at;
}
static void fill(u64 at, u64 size) {
    for (u64 i = 0; i + 8 <= size; i += 8)
        store(8, at + i, value());
}

#include "requests.h"

static u16 queue_count(const struct Device* d) {
    if (!d->mmio)
        return (u16)load(2, d->registers + 18);
    u16 count = 0;
    for (; count < 8; ++count) {
        set(d, queue_select, count);
        if (load(4, d->registers + 0x34) == 0)
            break;
    }
    return count;
}

static void reset(const struct Device* d) {
    set(d, status, 0);
    for (int i = 0; i < 200 && get(d, status) != 0; ++i)
        ;
}

static u64 bad_size(void) {
    static const u16 sizes[] = {0, 1, 2, 3, 5, 255, 256, 257, 1024, 0x7fff, 0x8000, 0xffff};
    return one_in(4) ? random() : sizes[below(12)];
}

static int large; ///< rings as large as they may be, up to 256

/// A queue with rings of its own. One time in `good` something about it is wrong.
static void set_up_queue(const struct Device* d, u16 queue, u64 good) {
    struct Ring* const ring = &rings[queue % 8];
    set(d, queue_select, queue);
    const u64 most = d->mmio ? load(4, d->registers + 0x34) : get(d, queue_size);
    ring->size = large ? (most < 256 ? (u32)most : 256) : 1U << below(6);
    if (ring->size == 0)
        return;
    u64 shown = one_in(good) ? bad_size() : ring->size;
    set(d, queue_size, shown);
    ring->next = ring->index = 0;
    ring->descriptors = take(ring->size * 16, 16);
    ring->available = take(ring->size * 2 + 6, 2);
    ring->used = take(ring->size * 8 + 6, 4);
    if (one_in(good))
        ring->used = one_in(2) ? ring->descriptors : ring->available & ~3UL;
    store(4, ring->available, 0);
    store(4, ring->used, 0);
    set(d, descriptors, one_in(good) ? address() : ring->descriptors);
    set(d, available, one_in(good) ? address() : ring->available);
    set(d, used, one_in(good) ? address() : ring->used);
    if (!d->mmio)
        store(2, d->registers + 26, one_in(good) ? random() : 0);
    set(d, queue_enable, one_in(good) ? value() : 1);
    if (one_in(good))
        set(d, queue_enable, 1);
}

/// True when it is ready for requests as far as this driver can tell.
static int start(const struct Device* d, u64 good) {
    fresh = 1;
    reset(d);
    set(d, status, 1);
    set(d, status, 3);
    for (u32 half = 0; half < 2; ++half) {
        set(d, offered_select, half);
        u64 bits = get(d, offered);
        if (one_in(2))
            bits &= random() | random() | half * 0x3; // VERSION_1 and ACCESS_PLATFORM stay
        if (one_in(good))
            bits = value();
        set(d, accepted_select, half);
        set(d, accepted, bits);
    }
    set(d, status, one_in(good) ? value() : 11);
    const u16 count = queue_count(d);
    for (u16 queue = 0; queue < count && queue < 8; ++queue)
        if (!one_in(good))
            set_up_queue(d, queue, good);
    if (one_in(good))
        set_up_queue(d, (u16)value(), good);
    set(d, status, one_in(good) ? value() : 15);
    return (get(d, status) & 0x4f) == 0x0f;
}

static void spoil_part(void) {
    struct Part* const part = &parts[below(part_count)];
    switch (below(5)) {
    case 0:
        part->at = address();
        break;
    case 1:
        part->length = one_in(2) ? 0xffffffff : 0;
        break;
    case 2:
        part->length = (u32)value() & 0xffffff;
        if (part->at < ram_end && part->at + part->length > ram_end)
            part->at = ram_end - (part->length & 0xffff);
        break;
    case 3:
        part->write ^= 1;
        break;
    default:
        parts[0] = *part;
    }
}

static void write_descriptor(u64 at, const struct Part* part, u16 flags, u16 next) {
    store(8, at, part->at);
    store(8, at + 8, part->length | (u64)(flags | (part->write ? 2 : 0)) << 32 | (u64)next << 48);
}

static void submit(const struct Device* d, u16 queue, int bad) {
    struct Ring* const ring = &rings[queue % 8];
    if (bad && one_in(2))
        spoil_part();
    u16 head = ring->next % ring->size;
    const int indirect = part_count > ring->size || one_in(4);
    if (indirect) {
        const u64 table = take(part_count * 16, 16);
        for (unsigned i = 0; i < part_count; ++i) {
            const u16 next = bad && one_in(8) ? (u16)below(part_count + 1) : (u16)(i + 1); // loops, too
            write_descriptor(table + i * 16, &parts[i], i + 1 < part_count || (bad && one_in(8)), next);
        }
        const u32 length = bad && one_in(8) ? (u32)value() : part_count * 16;
        const struct Part all = {bad && one_in(8) ? address() : table, length, (u16)(bad && one_in(8))};
        write_descriptor(ring->descriptors + head * 16, &all, bad && one_in(8) ? 5 : 4, head);
        if (bad && one_in(8)) // an indirect table inside an indirect table
            write_descriptor(table, &all, 4, 1);
        ring->next++;
    } else {
        for (unsigned i = 0; i < part_count; ++i) {
            const u16 at = ring->next++ % ring->size;
            const u16 next = bad && one_in(8) ? (u16)value() : (u16)(ring->next % ring->size);
            const u16 flags = bad && one_in(16) ? (u16)value() : i + 1 < part_count;
            write_descriptor(ring->descriptors + at * 16, &parts[i], flags, next);
        }
    }
    if (bad && one_in(8))
        head = (u16)value();
    store(2, ring->available + 4 + ring->index % ring->size * 2, head);
    if (bad && one_in(8))
        store(2, ring->available, value()); // flags
    ring->index = (u16)(ring->index + (bad && one_in(8) ? value() : 1));
    store(2, ring->available + 2, ring->index);
    if (bad && one_in(16))
        store(2, ring->used + 2, value());
    notify(d, bad && one_in(8) ? value() : queue);
}

/// Does most things right: what is behind the rules of rings gets its turn, too.
static void drive(const struct Device* d, unsigned requests) {
    const int ready = start(d, one_in(4) ? 8 : 400);
    const u16 count = queue_count(d);
    const int bad = one_in(3);
    for (unsigned i = 0; count != 0 && i < requests; ++i) {
        const u16 queue = (u16)below(count > 8 ? 8 : count);
        if (rings[queue].size == 0)
            continue;
        part_count = 0;
        make_request(d->type, queue);
        submit(d, queue, bad);
        if (one_in(8))
            (void)load(any_width(), settings(d) + below(64));
        if (one_in(16))
            store(any_width(), settings(d) + below(64), value());
        if (one_in(16))
            set(d, interrupts, get(d, interrupts));
        if (one_in(24)) { // one queue alone, with requests in it
            set(d, queue_select, queue);
            set(d, queue_reset, one_in(4) ? value() : 1);
            (void)get(d, queue_reset);
            if (one_in(2))
                set_up_queue(d, queue, 16);
        }
        if (one_in(32) || (ready && (get(d, status) & 0x40) != 0)) {
            set(d, status, 0); // with requests under way, and sometimes without waiting for them
            (void)start(d, one_in(4) ? 8 : 400);
        }
    }
    if (one_in(2))
        reset(d);
}

/// All that the rules allow, at once: full rings of requests with as many pieces as fit.
static void flood(const struct Device* d, unsigned turns) {
    large = 1;
    const int ready = start(d, 1UL << 40);
    large = 0;
    const u16 count = queue_count(d);
    if (!ready || count == 0)
        return;
    const u16 queue = (u16)below(count > 8 ? 8 : count);
    struct Ring* const ring = &rings[queue];
    part_count = 0;
    make_request(d->type, queue);
    const unsigned repeated = part_count > 2; // the first data, or all there is
    const unsigned pieces = (1U << below(10)) + part_count;
    const u64 table = take(pieces * 16, 16);
    if (d->type == block && repeated)
        parts[1].length = 4096;
    else if (parts[repeated].length > 4096)
        parts[repeated].length = 4096;
    for (unsigned i = 0; i < pieces; ++i) {
        const unsigned behind = pieces - i; // parts behind the repeated one come last
        const unsigned part = i < repeated ? i : behind < part_count - repeated ? part_count - behind : repeated;
        write_descriptor(table + i * 16, &parts[part], i + 1 < pieces, (u16)(i + 1));
    }
    const struct Part all = {table, pieces * 16, 0};
    for (u32 i = 0; i < ring->size; ++i) {
        write_descriptor(ring->descriptors + i * 16, &all, 4, 0);
        store(2, ring->available + 4 + i * 2, i);
    }
    for (unsigned i = 0; i < turns; ++i) {
        store(2, ring->available + 2, load(2, ring->used + 2) + ring->size);
        notify(d, queue);
        if ((get(d, status) & 0x40) != 0)
            break;
    }
    if (!one_in(4))
        reset(d);
}

/// Registers in any order.
static void confuse(const struct Device* d, unsigned accesses) {
    for (unsigned i = 0; i < accesses; ++i) {
        const enum Field field = (enum Field)below(field_count);
        switch (below(8)) {
        case 0:
            set(d, status, 1UL << below(9));
            break;
        case 1:
            set(d, queue_select, one_in(3) ? value() : below(8));
            break;
        case 2:
            set_up_queue(d, one_in(8) ? (u16)value() : (u16)below(8), 4);
            break;
        case 3:
            notify(d, one_in(3) ? value() : below(8));
            break;
        case 4:
            set(d, queue_enable, one_in(2) ? 1 : value());
            break;
        case 5:
            (void)get(d, field);
            break;
        case 6:
            set(d, field, field >= descriptors && field <= used ? address() : value());
            break;
        default:
            if (d->mmio)
                store(any_width(), d->registers + below(0x200), value());
            else
                store(any_width(), d->registers + below(64), address());
        }
    }
}
