// SPDX-License-Identifier: Apache-2.0
// Two PASIDs with page tables of their own share one accelerator through ENQCMD, with the CPU's true opcodes. Checks
// what each instruction does and how it faults; ends with 0, or with the number of the line that is wrong on the console.
#include "enqcmd_machine.h"

// PASIDs

static u64 command(u64 word, u64 operand) {
    wr64(COMMANDS + 0xe08, operand);
    wr64(COMMANDS + 0xe00, word);
    u64 response;
    while ((response = rd64(COMMANDS + 0xe10)) & 1)
        ;
    return response;
}
static u32 status_of(u64 response) { return response >> 1 & 0x7f; }
static u32 allocate(void) {
    const u64 response = command(1, 0);
    CHECK(status_of(response) == 0);
    return response >> 16 & 0xfffff;
}
static void release(u32 pasid) { CHECK(status_of(command(2 | (u64)pasid << 16, 0)) == 0); }

static u64 endpoint;
static void bind(u32 pasid, u64 root) {
    CHECK(status_of(command(0xc0 | (u64)pasid << 16 | endpoint << 36, root)) == 0);
}

/// A page table that shows 2 MiB of physical memory, in 4 KiB user pages, at VIRTUAL.
#define VIRTUAL 0x7f0000000000UL
static u64 make_table(u64 physical) {
    u64* const four = tables[tables_used++];
    u64* const three = tables[tables_used++];
    u64* const two = tables[tables_used++];
    u64* const one = tables[tables_used++];
    four[VIRTUAL >> 39 & 511] = (u64)three | 7;
    three[0] = (u64)two | 7;
    two[0] = (u64)one | 7;
    for (u64 i = 0; i < 512; ++i)
        one[i] = (physical + i * 4096) | 7;
    return (u64)four;
}

// The accelerator

struct Descriptor {
    u32 pasid, flags;
    u64 completion, source, destination;
    u32 size;
    u16 handle, reserved;
    u8 specific[24];
} __attribute__((aligned(64)));

static volatile struct Descriptor* const descriptor = (volatile struct Descriptor*)RAM_USER;

// Places inside each PASID's 2 MiB.
#define SOURCE 0x1000UL
#define TARGET 0x3000UL
#define RECORD 0x8000UL
#define NTH_RECORD(n) (RECORD + 0x40 + 0x40 * (n))
#define CANARY 0xa000UL
#define BIG 0x40000UL // and 0xc0000 bytes from it

static void describe(u32 opcode, u64 source, u64 destination, u32 size) {
    descriptor->pasid = 0;
    descriptor->flags = opcode << 24 | 0xc;
    descriptor->completion = VIRTUAL + RECORD;
    descriptor->source = source;
    descriptor->destination = destination;
    descriptor->size = size;
}
static void describe_copy(u32 size) { describe(3, VIRTUAL + SOURCE, VIRTUAL + TARGET, size); }

static void fill(u64 at, u64 size, u64 value) {
    for (u64 i = 0; i < size; i += 8)
        wr64(at + i, value + i);
}
static int holds(u64 at, u64 size, u64 value) {
    for (u64 i = 0; i < size; i += 8)
        if (rd64(at + i) != value + i)
            return 0;
    return 1;
}
static void lay_out(u64 physical, u64 seed) {
    fill(physical + SOURCE, 0x400, seed);
    fill(physical + TARGET, 0x400, seed + 0x1111);
    fill(physical + CANARY, 0x100, seed + 0x2222);
    wr64(physical + RECORD, 0);
}
static int moved(u64 physical, u64 seed) { return holds(physical + TARGET, 0x400, seed); }
static int untouched(u64 physical, u64 seed) {
    return holds(physical + TARGET, 0x400, seed + 0x1111) && holds(physical + CANARY, 0x100, seed + 0x2222) &&
           rd64(physical + RECORD) == 0;
}
static u32 wait_for(u64 physical) {
    for (int i = 0; i < 500000; ++i, (void)inb(0x3fd)) // each turn leaves the guest: seconds on every KVM
        if (*(volatile u8*)(physical + RECORD) != 0)
            return *(volatile u8*)(physical + RECORD);
    return 0;
}

static u64 config(u32 slot, u32 offset) { return ECAM + slot * 0x8000UL + offset; }
static u32 find_extended(u32 slot, u32 id) {
    for (u32 at = 0x100; at != 0; at = rd32(config(slot, at)) >> 20)
        if ((rd32(config(slot, at)) & 0xffff) == id)
            return at;
    return 0;
}

static u32 run_command(u32 code, u32 operand) {
    wr32(REGISTERS + 0xa0, code << 20 | operand);
    while (rd32(REGISTERS + 0xa8) & 1U << 31)
        ;
    return rd32(REGISTERS + 0xa8);
}

static void set_up_accelerator(void) {
    u32 slot = 0;
    while (slot < 32 && rd32(config(slot, 0)) != 0x0b258086)
        ++slot;
    CHECK(slot < 32);
    endpoint = slot << 3;
    wr32(config(slot, 0x10), REGISTERS);
    wr32(config(slot, 0x14), 0);
    wr32(config(slot, 0x18), PORTALS);
    wr32(config(slot, 0x1c), 0);
    wr32(config(slot, 0x04), 6);
    CHECK(rd32(REGISTERS) == 0x100);
    const u32 pasid = find_extended(slot, 0x1b), ats = find_extended(slot, 0x0f), requests = find_extended(slot, 0x13);
    CHECK(pasid != 0 && ats != 0 && requests != 0);
    wr32(config(slot, pasid + 4), 5U << 16); // on, with privileged mode
    wr32(config(slot, ats + 4), 1U << 31);
    wr32(config(slot, requests + 4), 1);
    CHECK(run_command(5, 0) == 0); // reset
    // Queue 0 shared, queue 1 dedicated and without PASID.
    wr32(REGISTERS + 0x600, 16);
    wr32(REGISTERS + 0x604, 8);
    wr32(REGISTERS + 0x608, 10 << 4 | 1U << 28);
    wr32(REGISTERS + 0x60c, 21 | 4 << 5);
    wr32(REGISTERS + 0x620, 16);
    wr32(REGISTERS + 0x628, 10 << 4 | 1);
    wr32(REGISTERS + 0x62c, 21 | 4 << 5);
    wr32(REGISTERS + 0x400, 3);
    wr32(REGISTERS + 0x420, 1);
    CHECK(run_command(1, 0) == 0);
    CHECK(run_command(6, 0) == 0);
    CHECK(run_command(6, 1) == 0);
}
#define SHARED (PORTALS + 0x1000)
#define DEDICATED (PORTALS + 0x5000)

// Ring 3

__asm__(".pushsection .text\n"
        "user_enqcmd: enqcmd (%rsi), %rdi\n hlt\n"
        "user_enqcmds: enqcmds (%rsi), %rdi\n hlt\n"
        "user_end:\n"
        ".popsection\n");
extern char user_enqcmd, user_enqcmds, user_end;
#define USER_CODE (RAM_USER + 0x10000)

/// Runs code in ring 3 until it faults; HLT there is how it ends. True when it got as far as the HLT.
static int in_user(const char* code, u64 destination, u64 source) {
    const u64 rip = USER_CODE + (u64)(code - &user_enqcmd);
    trap.vector = 0;
    __asm__ volatile("lea 1f(%%rip), %%rcx\n mov %%rcx, recover_rip(%%rip)\n mov %%rsp, recover_rsp(%%rip)\n"
                     "push $0x1b\n push %3\n push $0x2\n push $0x23\n push %2\n iretq\n1:\n"
                     // The way to ring 3 took DS and ES away, which 32-bit code needs.
                     "mov $0x10, %%eax\n mov %%eax, %%ss\n mov %%eax, %%ds\n mov %%eax, %%es\n" ::"D"(destination),
                     "S"(source), "r"(rip), "r"(RAM_USER + 0x20000)
                     : "rax", "rcx", "memory", "cc");
    return trap.vector == 13 && *(volatile u8*)trap.rip == 0xf4;
}

// Compatibility mode

// Code of 32 bits in long mode, and back. Code, stack, source and portal lie below 4 GiB.
__asm__(".pushsection .text\n.code32\n"
        "short_code:\n"
        "enqcmd (%esi), %edi\n setz %al\n"
        "push $0x08\n push %ebx\n lret\n"
        ".code64\n.popsection\n");
extern char short_code;

static u32 short_enqcmd(u64 destination, u64 source) {
    u64 zero = 0;
    trap.vector = 0;
    __asm__ volatile("lea 2f(%%rip), %%rcx\n mov %%rcx, recover_rip(%%rip)\n mov %%rsp, recover_rsp(%%rip)\n"
                     "push $0x38\n push %3\n lea 1f(%%rip), %%rbx\n lretq\n"
                     "2: mov $2, %%eax\n1:"
                     : "+a"(zero), "+D"(destination), "+S"(source)
                     : "r"((u64)&short_code)
                     : "rbx", "rcx", "memory", "cc");
    return (u32)zero;
}

// Checks

static void check_msr(void) {
    STEP("IA32_PASID");
    CHECK(read_msr(0xd93) == 0);
    CHECK(write_msr(0xd93, 0x800fffff) != faulted);
    CHECK(read_msr(0xd93) == 0x800fffff);
    CHECK(write_msr(0xd93, 1UL << 20) == faulted && trap.vector == 13 && trap.error == 0);
    CHECK(write_msr(0xd93, 1UL << 32) == faulted);
    CHECK(read_msr(0xd93) == 0x800fffff);
    CHECK(write_msr(0xd93, 0) != faulted);
}

static void use(u32 pasid) { CHECK(write_msr(0xd93, 1UL << 31 | pasid) != faulted); }

static int gp0(u32 result) { return result == faulted && trap.vector == 13 && trap.error == 0; }
static int page_fault(u32 result, u64 error, u64 address) {
    return result == faulted && trap.vector == 14 && trap.error == error && trap.cr2 == address;
}

static void check_faults(u32 pasid) {
    STEP("faults");
    describe_copy(0x400);
    use(pasid);
    CHECK(gp0(ENQCMD(SHARED + 32, RAM_USER)));
    CHECK(gp0(ENQCMDS(SHARED + 8, RAM_USER)));
    CHECK(gp0(MOVDIR64B(SHARED + 16, RAM_USER)));
    CHECK(write_msr(0xd93, pasid) != faulted); // not valid
    CHECK(gp0(ENQCMD(SHARED, RAM_USER)));
    use(0x12345); // nobody's
    CHECK(gp0(ENQCMD(SHARED, RAM_USER)));
    use(0x8000); // a number of the host's
    CHECK(gp0(ENQCMD(SHARED, RAM_USER)));
    use(0);
    CHECK(gp0(ENQCMD(SHARED, RAM_USER)));
    use(pasid);
    descriptor->pasid = pasid;
    CHECK(gp0(ENQCMD(SHARED, RAM_USER)));
    descriptor->pasid = 1U << 31;
    CHECK(gp0(ENQCMD(SHARED, RAM_USER)));
    descriptor->pasid = pasid | 1U << 20;
    CHECK(gp0(ENQCMDS(SHARED, RAM_USER)));
    descriptor->pasid = 0;
    CHECK(page_fault(ENQCMD(SHARED, RAM_ABSENT + 0x40), 0, RAM_ABSENT + 0x40));
    for (u64 i = 0; i < 64; i += 8)
        wr64(RAM_ABSENT - 16 - 48 + i, 0);
    CHECK(page_fault(ENQCMD(SHARED, RAM_ABSENT - 16), 0, RAM_ABSENT));
    CHECK(page_fault(ENQCMD(RAM_ABSENT, RAM_USER), 2, RAM_ABSENT));
    CHECK(gp0(ENQCMD(SHARED, 1UL << 63)));
    CHECK(gp0(ENQCMD(1UL << 63, RAM_USER)));
    CHECK(ATTEMPT(".byte 0xf0\n enqcmd (%%rsi), %%rdi", SHARED, RAM_USER) == faulted && trap.vector == 6);
}

static void check_user(u32 pasid, u64 physical, u64 seed) {
    STEP("ring 3");
    for (long i = 0; i < &user_end - &user_enqcmd; ++i)
        *(volatile u8*)(USER_CODE + (u64)i) = (u8)(&user_enqcmd)[i];
    describe_copy(0x400);
    use(pasid);
    lay_out(physical, seed);
    const int ended = in_user(&user_enqcmds, SHARED, RAM_USER);
    if (trap.vector == 6) { // a KVM that interprets ring 0 only, on a CPU without the instruction
        STEP("  is the CPU's own here");
        return;
    }
    CHECK(!ended && trap.vector == 13 && trap.error == 0);
    CHECK(!in_user(&user_enqcmd, SHARED, RAM_DATA) && trap.vector == 14 && trap.error == 5 && trap.cr2 == RAM_DATA);
    CHECK(!in_user(&user_enqcmd, RAM_DATA, RAM_USER) && trap.vector == 14 && trap.error == 7);
    CHECK(untouched(physical, seed));
    CHECK(in_user(&user_enqcmd, SHARED, RAM_USER));
    CHECK((trap.rflags & 0x40) == 0);
    CHECK(wait_for(physical) == 1 && moved(physical, seed));
}

static void check_compatibility(u32 pasid, u64 physical, u64 seed) {
    STEP("compatibility mode");
    describe_copy(0x400);
    use(pasid);
    lay_out(physical, seed);
    CHECK(gp0(short_enqcmd(SHARED + 32, RAM_USER)));
    CHECK(page_fault(short_enqcmd(SHARED, RAM_ABSENT + 0x40), 0, RAM_ABSENT + 0x40));
    CHECK(untouched(physical, seed));
    // Of addresses only 32 bits count.
    CHECK(short_enqcmd(SHARED | 1UL << 32, RAM_USER | 1UL << 47) == 0);
    CHECK(wait_for(physical) == 1 && moved(physical, seed));
    CHECK(short_enqcmd(RAM_USER + 0x2000, RAM_USER) == 1); // retry
}

static void check_plain_stores(u32 pasid, u64 physical, u64 seed) {
    STEP("plain stores");
    lay_out(physical, seed);
    describe_copy(0x400);
    descriptor->pasid = pasid;
    for (u64 i = 0; i < 64; i += 8)
        wr64(SHARED + 0x80 + i, rd64(RAM_USER + i));
    CHECK(rd32(SHARED + 0x80) == 0);
    CHECK(wait_for(physical) == 1 && moved(physical, seed));
    descriptor->pasid = 0x12345;
    for (u64 i = 0; i < 64; i += 8)
        wr64(SHARED + 0x80 + i, rd64(RAM_USER + i));
    CHECK(rd32(SHARED + 0x80) == 2);
}

static void check_movdir64b(u64 physical, u64 seed) {
    STEP("MOVDIR64B");
    fill(RAM_USER + 0x1000, 64, 0x1234);
    fill(RAM_USER + 0x2000, 128, 0);
    CHECK(MOVDIR64B(RAM_USER + 0x2040, RAM_USER + 0x1000) != faulted);
    CHECK(holds(RAM_USER + 0x2040, 64, 0x1234) && holds(RAM_USER + 0x2000, 64, 0));
    // The dedicated queue works in the function's own address space.
    lay_out(physical, seed);
    describe(3, physical + SOURCE, physical + TARGET, 0x400);
    descriptor->completion = physical + RECORD;
    CHECK(MOVDIR64B(DEDICATED, RAM_USER) != faulted);
    CHECK(wait_for(physical) == 1 && moved(physical, seed));
    use(1);
    CHECK(ENQCMD(DEDICATED, RAM_USER) == 1); // retry: no enqueue register
    CHECK(ENQCMD(RAM_USER + 0x2000, RAM_USER) == 1);
}

void guest(void) {
    set_up_cpu();
    u32 ecx, eax = 7;
    __asm__ volatile("cpuid" : "+a"(eax), "=c"(ecx) : "c"(0) : "rbx", "rdx");
    if ((ecx >> 28 & 3) != 3)
        STEP("CPUID does not show the instructions"); // some KVMs answer this leaf by themselves
    check_msr();

    STEP("two PASIDs");
    set_up_accelerator();
    const u32 used_before = rd32(COMMANDS + 0xc);
    CHECK(used_before == 0);
    const u64 memory[3] = {RAM_DATA, RAM_DATA + 0x200000, RAM_DATA + 0x400000};
    const u32 first = allocate(), second = allocate();
    CHECK(first != second && first != 0 && second != 0);
    bind(first, make_table(memory[0]));
    bind(second, make_table(memory[1]));
    for (u64 round = 1; round < 3; ++round) {
        for (u64 i = 0; i < 2; ++i)
            lay_out(memory[i], round * 0x100000 + i * 0x10000);
        describe_copy(0x400);
        use(first);
        CHECK(ENQCMD(SHARED, RAM_USER) == 0);
        CHECK(wait_for(memory[0]) == 1);
        CHECK(moved(memory[0], round * 0x100000) && untouched(memory[1], round * 0x100000 + 0x10000));
        use(second);
        CHECK(ENQCMD(SHARED, RAM_USER) == 0);
        CHECK(wait_for(memory[1]) == 1);
        CHECK(moved(memory[1], round * 0x100000 + 0x10000));
        CHECK(holds(memory[0] + CANARY, 0x100, round * 0x100000 + 0x2222));
    }
    STEP("ENQCMDS");
    lay_out(memory[0], 1);
    lay_out(memory[1], 2);
    describe_copy(0x400);
    descriptor->pasid = second;
    CHECK(write_msr(0xd93, 0) != faulted);
    CHECK(ENQCMDS(SHARED, RAM_USER) == 0);
    CHECK(wait_for(memory[1]) == 1 && moved(memory[1], 2) && untouched(memory[0], 1));

    check_faults(first);
    CHECK(untouched(memory[0], 1));
    check_user(first, memory[0], 7);
    check_compatibility(first, memory[0], 0x700);
    check_plain_stores(second, memory[1], 8);
    check_movdir64b(memory[2], 9);

    STEP("a fault in the address space");
    lay_out(memory[0], 11);
    describe(3, VIRTUAL + SOURCE, VIRTUAL + 0x200000 - 0x100, 0x400);
    use(first);
    CHECK(ENQCMD(SHARED, RAM_USER) == 0);
    CHECK(wait_for(memory[0]) == 0x83);
    CHECK(rd32(memory[0] + RECORD + 4) == 0x100 && rd64(memory[0] + RECORD + 8) == VIRTUAL + 0x200000);

    STEP("freed in flight");
    u64 left = 0; // submissions that were accepted and not complete when their PASID was gone
    for (u64 round = 0; round < 3 || (left == 0 && round < 500); ++round) {
        // Much work, freed at once; what is left of it belongs to nobody.
        u64 under_way = 0;
        describe(3, VIRTUAL + BIG, VIRTUAL + BIG + 0xc0000, 0xc0000);
        const u32 pasid = allocate();
        tables_used = 8;
        bind(pasid, make_table(memory[0]));
        use(pasid);
        for (u64 i = 0; i < 6; ++i) {
            wr64(memory[0] + NTH_RECORD(i), 0);
            descriptor->completion = VIRTUAL + NTH_RECORD(i);
            if (ENQCMD(SHARED, RAM_USER) == 0)
                under_way |= 1UL << i;
        }
        release(pasid);
        for (u64 i = 0; i < 6; ++i)
            if (rd64(memory[0] + NTH_RECORD(i)) != 0)
                under_way &= ~(1UL << i);
        for (u64 i = under_way; i != 0; i &= i - 1)
            ++left;
        CHECK(gp0(ENQCMD(SHARED, RAM_USER)));
        // Perhaps the same number again, over other memory: the old life does not reach it.
        const u32 again = allocate();
        lay_out(memory[2], 0x500 + round);
        lay_out(memory[0], 0x600 + round);
        tables_used = 12;
        bind(again, make_table(memory[2]));
        describe_copy(0x400);
        use(again);
        CHECK(ENQCMD(SHARED, RAM_USER) == 0);
        CHECK(wait_for(memory[2]) == 1 && moved(memory[2], 0x500 + round));
        CHECK(untouched(memory[0], 0x600 + round));
        for (u64 i = 0; i < 6; ++i)
            CHECK((under_way >> i & 1) == 0 || rd64(memory[0] + NTH_RECORD(i)) == 0); // nor later
        release(again);
    }
    CHECK(left != 0);

    STEP("the end");
    release(first);
    release(second);
    CHECK(status_of(command(2 | (u64)first << 16, 0)) != 0); // twice
    use(first);
    CHECK(gp0(ENQCMD(SHARED, RAM_USER)));
    CHECK(run_command(4, 0) == 0); // abort all
    for (int i = 0; i < 100000 && rd32(COMMANDS + 0xc) != 0; ++i)
        ;
    CHECK(rd32(COMMANDS + 0xc) == 0); // no reference is left anywhere
    CHECK(run_command(2, 0) == 0);
    use(1);
    CHECK(gp0(ENQCMD(SHARED, RAM_USER)));
    STEP("all is well");
    end(0);
}

__asm__(".pushsection .text\n.globl _start\n_start:\n lea stack_end(%rip), %rsp\n call guest\n.popsection\n"
        ".pushsection .bss\n.balign 16\n.skip 16384\nstack_end:\n.popsection\n");
