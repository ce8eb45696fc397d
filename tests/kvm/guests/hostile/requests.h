// SPDX-License-Identifier: Apache-2.0
// Requests of each kind of virtio device: right in form, with contents that a driver does not send.
#pragma once

static int fresh; ///< the driver has just started

static u32 some_length(void) {
    static const u32 lengths[] = {1, 8, 511, 512, 513, 1514, 4096, 65536, 65551};
    return one_in(3) ? (u32)below(9000) + 1 : lengths[below(9)];
}

static void make_block(void) {
    static const u32 types[] = {0, 1, 4, 8, 11, 13};
    const u32 type = one_in(8) ? (u32)value() : types[below(6)];
    const u64 head = add_part(one_in(16) ? 15 : 16, 0);
    store(8, head, type);
    store(8, head + 8, one_in(4) ? value() : below(2000));
    if (type == 11 || type == 13) {
        const u32 length = one_in(8) ? some_length() : 16;
        const u64 at = add_part(length, 0);
        for (u32 i = 0; i + 16 <= length && i < 64; i += 16) {
            store(8, at + i, one_in(4) ? value() : below(2000));
            store(8, at + i + 8, one_in(4) ? value() : below(100) + 1);
        }
    } else {
        for (u64 count = one_in(8) ? 0 : below(3) + (type < 2); count != 0; --count) {
            const u64 at = add_part(type == 8 ? 20 : one_in(8) ? some_length() : 512 * ((u32)below(16) + 1), type != 1);
            if (type == 1)
                store(8, at, random());
        }
    }
    (void)add_part(1, 1);
}

/// A frame for anybody, or for the metadata service.
static void make_frame(u64 at, u32 length) {
    static const u8 arp[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 6, 0, 0, 0, 0,   1,   8,   6,
                             0,    1,    8,    0,    6,    4,    0, 1, 6, 0, 0,   0,   0,   1,
                             169,  254,  1,    1,    0,    0,    0, 0, 0, 0, 169, 254, 169, 254};
    static const u8 tcp[] = {6,    1,    0x23, 0x45, 0x67, 1,  6, 0, 0, 0,   0,   1, 8,    0,   0x45, 0,   0,
                             40,   0,    1,    0,    0,    64, 6, 0, 0, 169, 254, 1, 1,    169, 254,  169, 254,
                             0x30, 0x39, 0,    80,   0,    0,  0, 1, 0, 0,   0,   0, 0x50, 2,   0x20, 0};
    if (one_in(2))
        copy(at, arp, length < sizeof arp ? length : sizeof arp);
    else
        copy(at, tcp, length < sizeof tcp ? length : sizeof tcp);
    for (u64 count = below(6); count != 0; --count)
        store(1, at + below(length < 64 ? length : 64), random());
}
static void make_net(u16 queue) {
    if (queue % 2 == 0 && (queue == 0 || one_in(4))) {
        for (u64 count = below(3) + 1; count != 0; --count)
            (void)add_part(one_in(2) ? 1526 : some_length(), 1);
        return;
    }
    if (queue % 2 == 0) { // control, behind the last pair
        const u64 at = add_part(2, 0);
        store(2, at, one_in(2) ? value() : below(6) | below(4) << 8);
        const u64 words = add_part(one_in(2) ? 8 : some_length(), 0);
        store(8, words, one_in(2) ? below(4) : value()); // queue pairs, offloads
        (void)add_part(1, 1);
        return;
    }
    const u64 head = add_part(12, 0);
    store(8, head, one_in(2) ? 0 : value());
    store(4, head + 8, one_in(2) ? 0 : value());
    const u32 length = some_length();
    make_frame(add_part(length, 0), length);
}

static void make_vsock(u16 queue) {
    if (queue != 1) {
        (void)add_part(one_in(4) ? some_length() : 4096, 1);
        return;
    }
    const u64 at = add_part(44, 0);
    const u32 length = one_in(2) ? 0 : some_length();
    store(8, at, one_in(8) ? value() : 3);     // source
    store(8, at + 8, one_in(8) ? value() : 2); // destination
    store(4, at + 16, one_in(8) ? value() : below(8));
    store(4, at + 20, one_in(8) ? value() : 6000);
    store(4, at + 24, one_in(8) ? value() : length);
    store(2, at + 28, one_in(8) ? value() : 1);
    store(2, at + 30, one_in(8) ? value() : below(8)); // operation
    store(4, at + 32, one_in(2) ? value() : 0);
    store(4, at + 36, one_in(2) ? value() : 0x10000);
    store(4, at + 40, one_in(2) ? value() : 0);
    if (length != 0)
        (void)add_part(length, 0);
}

/// Page numbers: of memory that the guest may lose, or of none.
static void make_balloon(u16 queue) {
    if (queue > 1) {
        (void)add_part(some_length(), queue == 4 || one_in(4));
        return;
    }
    const u32 count = (u32)below(64) + 1;
    const u64 at = add_part(count * 4, 0);
    for (u32 i = 0; i < count; ++i)
        store(4, at + 4 * i, (one_in(4) ? ram_end + below(1UL << 40) : scratch()) >> 12);
}

static void make_iommu(u16 queue) {
    if (queue != 0) {
        (void)add_part(some_length(), 1);
        return;
    }
    enum { attach = 1, detach, map, unmap, probe, allocate = 0x80, release, bind, unbind, invalidate };
    static const u8 types[] = {attach, attach, detach,   map,     map,  map,    unmap,
                               unmap,  probe,  allocate, release, bind, unbind, invalidate};
    static const u8 sizes[] = {20, 20, 36, 28, 72, 8, 8, 24, 16, 32}; // by type, the private ones behind the others
    const u32 type = types[below(sizeof types)];
    const u32 size = one_in(32) ? some_length() : sizes[type < allocate ? type - 1 : type - allocate + 5];
    const u64 at = add_part(size, 0), number = one_in(8) ? value() : below(4);
    const u64 endpoint = one_in(8) ? value() : functions[below(function_count + 1)].place;
    for (u64 i = 0; i < 80; i += 8)
        store(8, at + i, one_in(32) ? value() : 0);
    store(4, at, one_in(32) ? value() : type);
    store(4, at + 4, type == probe || type > release ? endpoint : number);
    if (type == attach || type == detach) {
        store(4, at + 8, endpoint);
        store(4, at + 12, one_in(8)); // without translation
    } else if (type == map || type == unmap) {
        const u64 first = one_in(8) ? value() : SCRATCH + (below(0x1000) << 12);
        store(8, at + 8, one_in(4) ? 0 : first);
        store(8, at + 16, one_in(4) ? ~0UL : first | 0xfff | below(64) << 12);
        if (type == map) {
            store(8, at + 24, one_in(4) ? address() : first);
            store(4, at + 32, one_in(8) ? value() : 1 + below(3));
        }
    } else if (type > release) {
        store(4, at + 8, number);
        store(4, at + 12, type == unbind ? 0 : below(16));
        if (type != unbind)
            store(8, at + 16, type == bind ? scratch() & ~0xfffUL : value());
    }
    if (type == probe)
        (void)add_part(one_in(8) ? some_length() : 512, 1);
    else if (type == allocate)
        (void)add_part(4, 1);
    (void)add_part(one_in(32) ? some_length() : 4, 1);
}

/// A message of FUSE. Names lead out of the folder where they can.
static void make_fs(void) {
    static const char* const names[] = {"..", "../escaped", "/tmp/hostile-escaped", ".", "", "a", "a/b", "link", "dir"};
    // Bytes of arguments, and names behind them
    static const u8 arguments[64] = {
        [2] = 8,   [3] = 16,  [4] = 88,  [8] = 16,  [9] = 8,   [12] = 8, [13] = 8,  [14] = 8, [15] = 40,
        [16] = 40, [18] = 24, [20] = 16, [21] = 8,  [22] = 8,  [23] = 8, [25] = 24, [27] = 8, [28] = 40,
        [29] = 24, [30] = 16, [31] = 48, [32] = 48, [33] = 48, [34] = 8, [35] = 16, [36] = 8, [39] = 32,
        [42] = 8,  [43] = 32, [44] = 40, [45] = 16, [46] = 24, [47] = 56};
    static const u8 named[64] = {[1] = 1,  [6] = 2,  [8] = 1,  [9] = 1,  [10] = 1, [11] = 1, [12] = 2,
                                 [13] = 1, [21] = 2, [22] = 1, [24] = 1, [35] = 1, [45] = 2};
    static const u8 operations[] = {1,  3,  4,  5,  6,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24,
                                    25, 26, 27, 28, 29, 30, 31, 32, 34, 35, 36, 38, 39, 42, 43, 44, 45, 46, 47, 52};
    const u64 at = take(4096 + 512, 8);
    u64 end = at + 40;
    const int first = fresh && !one_in(8); // a mount begins with INIT
    const u32 operation = first ? 26 : one_in(32) ? (u32)value() : operations[below(sizeof operations)];
    fresh = 0;
    if (operation == 26) {
        store(4, end, 7);
        store(4, end + 4, one_in(4) ? value() : 31);
        store(8, end + 8, value());
        end += 16;
    } else {
        const u64 size = one_in(8) ? below(12) * 8 : arguments[operation & 63];
        fill(end, size);
        if (one_in(2))
            store(8, end, below(4));
        if (operation == 15 || operation == 16 || operation == 28 || operation == 44) { // data
            const u64 bytes = one_in(8) ? value() : below(4000);
            store(8, end + 8, one_in(4) ? value() : below(0x10000));
            store(4, end + 16, bytes);
            end += operation == 16 && bytes < 4000 ? bytes : 0;
        }
        end += size;
    }
    for (u64 count = one_in(8) ? below(3) : named[operation & 63]; count != 0; --count) {
        const char* name = names[below(9)];
        do
            store(1, end++, (u8)*name);
        while (*name++);
    }
    const u64 length = one_in(8) ? below(4200) : end - at;
    store(4, at, one_in(8) ? value() : length);
    store(4, at + 4, operation);
    store(8, at + 8, one_in(4) ? value() : below(64));                 // number of the message
    store(8, at + 16, one_in(8) ? value() : one_in(2) ? 1 : below(8)); // node
    store(8, at + 24, 0);
    store(8, at + 32, 1);
    parts[part_count++] = (struct Part){at, (u32)length, 0};
    if (!one_in(4))
        (void)add_part(one_in(2) ? 4096 : some_length(), 1);
}

static void make_request(u32 type, u16 queue) {
    switch (type) {
    case net:
        make_net(queue);
        break;
    case block:
        make_block();
        break;
    case vsock:
        make_vsock(queue);
        break;
    case balloon:
        make_balloon(queue);
        break;
    case iommu:
        make_iommu(queue);
        break;
    case fs:
        make_fs();
        break;
    case console:
        (void)add_part(some_length(), queue % 2 == 0);
        break;
    default:
        (void)add_part(some_length(), 1);
    }
    if (part_count == 0)
        (void)add_part(some_length(), one_in(2));
}
