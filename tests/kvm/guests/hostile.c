// SPDX-License-Identifier: Apache-2.0
// A guest that does to its machine what no driver does: every port, register, BAR, ring and byte of configuration
// space, with values from a seed. The kernel command line has
//   seed=N steps=N         the same line gives the same accesses, of each CPU
//   stride=N               so many seeds reach each port once; 0: no port is swept
//   memory=MIB cpus=N mmio=0|1
//   hypercalls=0|1         a KVM that interprets repeats them for ever, and a write to MSR 4b564d10
//   last=0|1               1: the seed chooses one of the other ends that a guest has, or a panic
// Says "hostile: done" and ends with 42.
#include "hostile/dsa.h"
#include "hostile/second.h"

// Ports

/// What would end the run becomes something that does not.
static void attack_port(int width, u16 port, u32 what) {
    const u32 end = port + (u32)width;
    if ((port <= 0xf4 && end > 0xf4) || port == 0xf6 || port == 0x505 || (port >= 0x618 && port < 0x61c))
        return; // exit, no root, panic, eject
    if (port <= 0x64 && end > 0x64)
        what &= ~(0xffU << 8 * (0x64 - port)); // keyboard controller: reset
    if (port < 0x604 && end > 0x600)
        what &= 0x5e5e5e5e & (port < 0x602 && end > 0x602 ? ~(0xffU << 8 * (0x602 - port)) : ~1U); // S5, reset
    if (port == 0xcf9)
        what &= ~4U;
    out(width, port, what);
}

static void sweep_ports(u64 from, u64 stride) {
    for (u64 port = from; port < 0x10000; port += stride) {
        const int width = 1 << below(3);
        (void)in(1 << below(3), (u16)port);
        if (port + (u64)width <= 0x10000)
            attack_port(width, (u16)port, (u32)value());
    }
}

static void attack_ports(unsigned accesses) {
    static const u16 known[] = {0x20,  0x21,  0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3ff, 0x40,
                                0x43,  0x60,  0x61,  0x64,  0x70,  0x71,  0x80,  0x92,  0xa0,  0xa1,
                                0xf4,  0xf5,  0xf7,  0x4d0, 0x505, 0x510, 0x511, 0x514, 0x600, 0x601,
                                0x603, 0x610, 0x614, 0x61c, 0xcd8, 0xcf8, 0xcf9, 0xcfc, 0xcff};
    for (unsigned i = 0; i < accesses; ++i) {
        const u16 port = known[below(sizeof known / sizeof *known)] - (u16)(one_in(4) ? below(4) : 0);
        u64 count = below(40), memory = scratch();
        switch (below(6)) {
        case 0:
        case 1:
            (void)in(1 << below(3), port);
            break;
        case 2: // string instructions
            __asm__ volatile("rep insb" : "+D"(memory), "+c"(count) : "d"(port) : "memory");
            break;
        case 3:
            if (port == 0x3f8 || port == 0x71 || port == 0xcfc)
                __asm__ volatile("rep outsl" : "+S"(memory), "+c"(count) : "d"(port) : "memory");
            break;
        default:
            attack_port(1 << below(3), port, (u32)value());
        }
    }
}

// The CPU

static int hypercalls;

static void attack_msrs(unsigned accesses) {
    static const u32 bases[] = {0,          0x100,      0x200,      0x400,      0x480,      0x800,      0xd00,
                                0x40000000, 0x4b564d00, 0xc0000080, 0xc0000100, 0xc0010000, 0xc0010100, 0xc0011000};
    for (unsigned i = 0; i < accesses; ++i) {
        const u32 index = one_in(16) ? (u32)random() : bases[below(14)] + (u32)below(0x80);
        u64 low = 0, high = 0;
        __asm__ volatile(GUARDED("rdmsr") : "+a"(low), "=d"(high) : "c"(index) : "r11");
        // The APIC's place, SYSCALL and long mode, and the x2APIC's commands are the guest's own ruin.
        if ((index == 0x4b564d10 && !hypercalls) || index == 0x1b || index == 0x9e || index == 0xc0000080 ||
            (index >= 0x800 && index < 0x900))
            continue;
        // KVM writes to the memory that its own numbers name.
        const u64 what = index >> 8 == 0x4b564d || index >> 28 == 4 || index < 0x20 ? scratch() | below(2) : value();
        low = (u32)what;
        __asm__ volatile(GUARDED("wrmsr") : "+a"(low) : "c"(index), "d"((u32)(what >> 32)) : "r11", "memory");
    }
}

static void attack_cpu(void) {
    static const u32 leaves[] = {0, 0x40000000, 0x80000000, 0x8fffff00, 0xc0000000};
    u64 a = leaves[below(5)] + below(0x28), c = below(16), b = 0, d = 0;
    __asm__ volatile("cpuid" : "+a"(a), "+c"(c), "=b"(b), "=d"(d));
    if (!hypercalls)
        return;
    a = one_in(4) ? value() : below(16);
    b = address(), c = value(), d = value();
    u64 s = value();
    if (one_in(2))
        __asm__ volatile(GUARDED("vmcall") : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(s)::"r11", "memory");
    else
        __asm__ volatile(GUARDED("vmmcall") : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(s)::"r11", "memory");
}

/// Addresses at which there may be nothing.
static void attack_space(unsigned accesses) {
    for (unsigned i = 0; i < accesses; ++i) {
        const u64 at = address();
        if (at < ram_end || (at >= 0xfec00000 && at < 0xff000000))
            continue;
        if (one_in(2))
            (void)load(any_width(), at);
        else
            store(any_width(), at, value());
    }
}

// Rounds

static void attack_hotplug(void) {
    const u16 port = 0x610 + (u16)below(16);
    if (port < 0x618 || port >= 0x61c)
        attack_port(1 << below(3), port, (u32)value());
    (void)in(1 << below(3), port);
}

static void attack_once(void) {
    const struct Function* const f = &functions[below(function_count + !function_count)];
    const struct Device* const d = &devices[below(device_count + !device_count)];
    switch (below(15)) {
    case 0:
        attack_ports(16);
        break;
    case 1:
        attack_msrs(8);
        attack_cpu();
        break;
    case 2:
        attack_space(8);
        attack_hotplug();
        break;
    case 3:
        if (function_count != 0)
            attack_config(f, 16);
        break;
    case 4:
        if (function_count != 0)
            attack_bars(f, 24);
        break;
    case 5:
        if (function_count != 0 && one_in(4))
            move_all_together();
        break;
    case 6:
        attack_pasids(8);
        break;
    case 7:
        attack_accelerator(6);
        break;
    case 8:
        if (device_count != 0)
            confuse(d, 24);
        break;
    case 9:
        if (device_count != 0)
            flood(d, 40);
        break;
    default:
        if (device_count != 0)
            drive(d, 12);
    }
}

/// Every end that a guest has; the slots go first.
static void end_otherwise(void) {
    out(4, 0x618, (u32)random());
    out(4, 0x618, 0xffffffff);
    for (int i = 0; i < 4; ++i)
        if (function_count != 0)
            access_config(functions[below(function_count)].place, (u32)below(0x100), any_width());
    switch (below(7)) {
    case 0:
        out(1, 0x505, (u8)random());
        out(1, 0x505, 1);
        break;
    case 1:
        for (const char* text = "no root at all\n"; *text; ++text)
            out(1, 0xf6, (u8)*text);
        break;
    case 2:
        out(1, 0x600, 0x34);
        break;
    case 3:
        out(1, 0x602, 1);
        break;
    case 4:
        out(1, 0xcf9, 6);
        break;
    case 5:
        out(1, 0x64, 0xfe);
        break;
    default:
        out(1, 0x64, 0xd1);
        out(1, 0x60, 0);
    }
    for (int i = 0; i < 1000; ++i)
        (void)in(1, 0x80);
}

static u64 word(const char* line, const char* name) {
    for (; *line; ++line) {
        const char *at = line, *wanted = name;
        while (*wanted && *at == *wanted)
            ++at, ++wanted;
        if (*wanted)
            continue;
        u64 number = 0;
        for (; *at >= '0' && *at <= '9'; ++at)
            number = number * 10 + (u64)(*at - '0');
        return number;
    }
    return 0;
}

__attribute__((used)) static void guest(const u8* boot_params) {
    const char* const line = (const char*)(u64) * (const u32*)(boot_params + 0x228);
    const u64 seed = word(line, "seed="), steps = word(line, "steps="), stride = word(line, "stride=");
    random_state = (seed + 1) * 0x9e3779b97f4a7c15;
    if (word(line, "memory=") != 0)
        ram_end = word(line, "memory=") << 20;
    hypercalls = word(line, "hypercalls=") != 0;
    const int mmio = word(line, "mmio=") != 0, last = word(line, "last=") != 0;
    set_up_memory();
    set_up_cpu();
    if (!mmio)
        find_functions();
    find_devices(mmio);
    find_accelerator();
    say("hostile: ");
    say_number(device_count);
    say(" virtio devices, ");
    say_number(function_count);
    say(" functions\n");
    if (word(line, "cpus=") > 1)
        start_second(steps);
    if (stride != 0)
        sweep_ports((2 * seed + (u64)mmio) % stride, stride);
    for (u64 i = 0; i < device_count; ++i)
        drive(&devices[i], 8);
    for (u64 i = 0; i < function_count; ++i) {
        attack_config(&functions[i], 64);
        attack_bars(&functions[i], 32);
    }
    for (u64 i = 0; i < steps; ++i)
        attack_once();
    if (word(line, "cpus=") > 1)
        stop_second();
    restore_serial();
    say("\nhostile: done, ");
    say_number(faults);
    say(" faults\n");
    if (last)
        end_otherwise();
    end(42);
}

__asm__(".pushsection .text\n.globl _start\n_start:\n lea stack_end(%rip), %rsp\n mov %rsi, %rdi\n call guest\n"
        ".popsection\n.pushsection .bss\n.balign 16\n.skip 16384\nstack_end:\n.popsection\n");
