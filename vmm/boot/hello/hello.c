// SPDX-License-Identifier: Apache-2.0
// The guest that `inox run` boots when no kernel is given. It looks around with CPUID and boot_params, writes what it
// sees to COM1 and leaves. No SSE, no interrupts, no page faults; a few thousand instructions, because some KVMs
// interpret them one by one. Entered as Linux's 64-bit boot protocol says: RSI = boot_params, flat identity map.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { com1 = 0x3f8, port_exit = 0xf4, port_boot_timer = 0xf5, user_space_up = 123 };

// The greeting goes out before anything else is done: the ninth instruction is the first byte. The time stamp is
// taken first. The serial port is not polled: this machine's is always ready.
asm(".pushsection .text.start, \"ax\"\n"
    ".globl hello_start\n"
    "hello_start:\n"
    "    rdtsc\n"
    "    mov %eax, %r8d\n"
    "    mov %edx, %r9d\n"
    "    mov %rsi, %rdi\n"
    "    mov $0x3f8, %edx\n"
    "    lea greeting(%rip), %rsi\n"
    "    mov $(greeting_end - greeting), %ecx\n"
    "    cld\n"
    "    rep outsb\n"
    "    lea hello_stack_top(%rip), %rsp\n"
    "    mov %r9, %rsi\n"
    "    shl $32, %rsi\n"
    "    or %r8, %rsi\n"
    "    call hello_main\n"
    "greeting:\n"
    "    .ascii \"Hello from inox: a guest with no kernel file.\\r\\n\"\n"
    "greeting_end:\n"
    ".popsection");

static void out8(u16 port, u8 value) { asm volatile("outb %0, %1" : : "a"(value), "d"(port)); }

static u64 rdtsc(void) {
    u32 low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}

struct cpuid {
    u32 eax, ebx, ecx, edx;
};
static struct cpuid cpuid(u32 leaf, u32 subleaf) {
    struct cpuid r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}

// One line is built here, then written by one string instruction.
static char line[256];
static u32 length;

static void put(char c) {
    if (length < sizeof line)
        line[length++] = c;
}
static void text(const char* s) {
    while (*s)
        put(*s++);
}
static void number(u64 value) {
    char digits[20];
    u32 count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (count)
        put(digits[--count]);
}
static void tenths(u64 value) {
    number(value / 10);
    put('.');
    put((char)('0' + value % 10));
}
/// Four characters of a CPUID register; runs of spaces become one, leading ones none.
static void packed(u32 reg) {
    for (u32 i = 0; i < 4; ++i, reg >>= 8) {
        const char c = (char)reg;
        if (c >= ' ' && c <= '~' && (c != ' ' || (length && line[length - 1] != ' ')))
            put(c);
    }
}
static void end_line(void) {
    put('\r');
    put('\n');
    const char* from = line;
    u32 count = length;
    asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(com1) : "memory");
    length = 0;
}

static u32 vcpus(u32 max_leaf) {
    const u32 from_topology = max_leaf >= 0xb ? cpuid(0xb, 1).ebx & 0xffff : 0;
    return from_topology ? from_topology : 1;
}

static void say_cpu(void) {
    const struct cpuid vendor = cpuid(0, 0);
    text("  cpu       ");
    const u32 title = length;
    for (u32 leaf = 0x80000002; leaf <= 0x80000004 && cpuid(0x80000000, 0).eax >= leaf; ++leaf) {
        const struct cpuid brand = cpuid(leaf, 0);
        packed(brand.eax), packed(brand.ebx), packed(brand.ecx), packed(brand.edx);
    }
    if (length == title)
        packed(vendor.ebx), packed(vendor.edx), packed(vendor.ecx);
    while (line[length - 1] == ' ')
        --length;
    text(", ");
    const u32 count = vcpus(vendor.eax);
    number(count);
    text(count == 1 ? " vCPU" : " vCPUs");
    end_line();
}

// boot_params: e820 count at 0x1e8, 20-byte entries at 0x2d0 (Documentation/arch/x86/zero-page.rst).
struct e820_entry {
    u64 address, size;
    u32 type;
} __attribute__((packed));

static void say_memory(const u8* boot_params) {
    const struct e820_entry* entry = (const struct e820_entry*)(boot_params + 0x2d0);
    u64 usable = 0;
    for (u32 i = 0; i < boot_params[0x1e8]; ++i)
        if (entry[i].type == 1)
            usable += entry[i].size;
    text("  memory    ");
    tenths(usable / 1024 * 10 / 1024);
    text(" MiB usable");
    end_line();
}

static void say_hypervisor(void) {
    text("  below me  ");
    if (cpuid(1, 0).ecx >> 31) {
        const struct cpuid signature = cpuid(0x40000000, 0);
        packed(signature.ebx), packed(signature.ecx), packed(signature.edx);
    } else {
        text("no hypervisor that says so");
    }
    end_line();
}

/// TSC ticks a millisecond, if the hypervisor tells: CPUID 0x40000010 EAX.
static u32 tsc_khz(void) {
    if (!(cpuid(1, 0).ecx >> 31) || cpuid(0x40000000, 0).eax < 0x40000010)
        return 0;
    return cpuid(0x40000010, 0).eax;
}

static void say_time(u64 first) {
    const u32 khz = tsc_khz();
    const u64 taken = rdtsc() - first;
    text("  time      ");
    if (khz) {
        tenths(taken * 10 / khz);
        text(" ms since my first instruction");
        // KVM starts a vCPU's TSC at 0 when it makes the vCPU, if it can offset the TSC. A large value: it could not.
        if (first / khz < 10000) {
            text(", which ran ");
            tenths(first * 10 / khz);
            text(" ms after my vCPU was made");
        }
    } else {
        number(taken);
        text(" TSC ticks since my first instruction");
    }
    end_line();
}

static void say_goodbye(void) {
    text("That is all I do. Give me a kernel next time: inox run --kernel vmlinuz --initrd initrd.img");
    end_line();
}

__attribute__((noreturn, used)) void hello_main(const u8* boot_params, u64 first) {
    say_cpu();
    say_memory(boot_params);
    say_hypervisor();
    say_time(first);
    say_goodbye();
    out8(port_boot_timer, user_space_up);
    out8(port_exit, 0);
    for (;;)
        asm volatile("cli; hlt");
}
