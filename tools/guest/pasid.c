// SPDX-License-Identifier: Apache-2.0
// A Linux program, as root in a guest with --dsa, that allocates PASIDs, binds page tables of its own making to them and
// has the accelerator copy memory in each address space, submitting by plain stores. Checks that each PASID moves its
// own memory only, also when it is freed while it works. docs/guest-abi.md and docs/dsa.md describe what it uses.
// Prints what it did; status 0 when all went as it should.
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef volatile uint8_t Bytes;

static void stop(const char *what, uint64_t value) {
    printf("pasid: FAILED: %s (%llx)\n", what, (unsigned long long)value);
    exit(1);
}
static void check(int good, const char *what, uint64_t value) {
    if (!good)
        stop(what, value);
}

static uint64_t get(Bytes *at) { return *(volatile uint64_t *)at; }
static uint32_t get32(Bytes *at) { return *(volatile uint32_t *)at; }
static void put(Bytes *at, uint64_t value) { *(volatile uint64_t *)at = value; }
static void put32(Bytes *at, uint32_t value) { *(volatile uint32_t *)at = value; }

static Bytes *map_file(const char *path, off_t offset, size_t size) {
    const int fd = open(path, O_RDWR | O_SYNC);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    check(at != MAP_FAILED, path, 0);
    close(fd);
    return at;
}

// ---- the virtual command interface ---------------------------------------------------------------------------------

static Bytes *commands;
static uint64_t endpoint;

static uint64_t run(uint64_t word, uint64_t operand) {
    while (get(commands + 0xe10) & 1)
        ;
    put(commands + 0xe08, operand);
    put(commands + 0xe00, word);
    uint64_t response;
    while ((response = get(commands + 0xe10)) & 1)
        ;
    return response;
}
static unsigned status(uint64_t response) { return response >> 1 & 0x7f; }
static unsigned used(void) { return get32(commands + 0x00c); }

static uint32_t allocate(void) {
    const uint64_t response = run(0x01, 0);
    check(status(response) == 0, "allocate", response);
    return response >> 16 & 0xfffff;
}
static void release(uint32_t pasid) {
    const uint64_t response = run(0x02 | (uint64_t)pasid << 16, 0);
    check(status(response) == 0, "free", response);
}
static void bind(uint32_t pasid, uint64_t table) {
    const uint64_t response = run(0xc0 | (uint64_t)pasid << 16 | endpoint << 36, table);
    check(status(response) == 0, "bind", response);
}

// ---- memory: one huge page, whose physical address is known ---------------------------------------------------------

enum { huge = 2 << 20, page = 4096, area = 0x60000, source = 0, target = 0x28000, record = 0x58000, guard = 0x59000 };
#define VIRTUAL 0x7f0000000000UL
static Bytes *memory;
static uint64_t physical;
static const unsigned areas[3] = {0x20000, 0x80000, 0x100000};

static void get_memory(void) {
    FILE *pool = fopen("/proc/sys/vm/nr_hugepages", "w");
    check(pool && fputs("2\n", pool) >= 0 && fclose(pool) == 0, "nr_hugepages", 0);
    memory = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
    check(memory != MAP_FAILED, "no huge page", 0);
    memset((void *)memory, 0, huge);
    const int fd = open("/proc/self/pagemap", O_RDONLY);
    uint64_t entry = 0;
    check(pread(fd, &entry, 8, (off_t)((uintptr_t)memory / page * 8)) == 8, "pagemap", 0);
    close(fd);
    physical = (entry & ((1UL << 55) - 1)) * page;
    check(physical != 0 && physical % huge == 0, "physical address", physical);
}

/// Shows area `n` at VIRTUAL, in user pages. The tables of each take four pages.
static uint64_t make_table(unsigned n) {
    uint64_t *const tables = (uint64_t *)(memory + n * 4 * page);
    const uint64_t at = physical + n * 4 * page;
    memset(tables, 0, 4 * page);
    tables[VIRTUAL >> 39 & 511] = (at + page) | 7;
    tables[512] = (at + 2 * page) | 7;
    tables[1024] = (at + 3 * page) | 7;
    for (unsigned i = 0; i < area / page; ++i)
        tables[1536 + i] = (physical + areas[n] + i * page) | 7;
    return at;
}

static void lay_out(unsigned n, uint64_t seed) {
    Bytes *const at = memory + areas[n];
    for (unsigned i = 0; i < area; i += 8)
        put(at + i, i < target ? seed + i : ~seed ^ i);
    put(at + record, 0);
}
/// The first `size` bytes of the target are the source's, the rest of the area is as it was laid out.
static int holds(unsigned n, uint64_t seed, unsigned size) {
    Bytes *const at = memory + areas[n];
    for (unsigned i = 0; i < area; i += 8) {
        uint64_t wanted = i < target ? seed + i : ~seed ^ i;
        if (i >= target && i < target + size)
            wanted = seed + (i - target);
        if ((i < record || i >= guard) && get(at + i) != wanted)
            return 0;
    }
    return 1;
}

// ---- the accelerator -----------------------------------------------------------------------------------------------

static Bytes *registers, *portals;
static int config;

static uint32_t config_read(unsigned at) {
    uint32_t value = 0;
    check(pread(config, &value, 4, at) == 4, "configuration space", at);
    return value;
}
static void config_write(unsigned at, uint16_t value) {
    check(pwrite(config, &value, 2, at) == 2, "configuration space", at);
}
static unsigned capability(unsigned id) {
    unsigned at = 0x100;
    while (at != 0 && (config_read(at) & 0xffff) != id)
        at = config_read(at) >> 20;
    check(at != 0, "no extended capability", id);
    return at;
}

static void find_accelerator(void) {
    char path[512], name[256] = "";
    DIR *const list = opendir("/sys/bus/pci/devices");
    check(list != NULL, "no PCI in /sys", 0);
    for (struct dirent *each; !name[0] && (each = readdir(list));) {
        uint32_t id = 0;
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/config", each->d_name);
        const int fd = open(path, O_RDWR);
        if (fd >= 0 && pread(fd, &id, 4, 0) == 4 && id == 0x0b258086) {
            snprintf(name, sizeof name, "%s", each->d_name);
            config = fd;
        } else if (fd >= 0) {
            close(fd);
        }
    }
    closedir(list);
    check(name[0], "no accelerator 8086:0b25", 0);
    unsigned bus, slot, function;
    check(sscanf(name, "%*x:%x:%x.%x", &bus, &slot, &function) == 3, name, 0);
    endpoint = bus << 8 | slot << 3 | function;
    config_write(0x04, 6); // memory space and bus master
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/resource0", name);
    registers = map_file(path, 0, 0x2000);
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/resource2", name);
    portals = map_file(path, 0, 0x4000);
    config_write(capability(0x1b) + 6, 5); // PASID
    config_write(capability(0x0f) + 6, 0x8000); // ATS
    config_write(capability(0x13) + 4, 1);      // page requests
}

static void accelerator_command(unsigned code, unsigned operand) {
    put32(registers + 0xa0, code << 20 | operand);
    while (get32(registers + 0xa8) & 1U << 31)
        ;
    check((get32(registers + 0xa8) & 0xff) == 0, "accelerator command", (uint64_t)code << 32 | get32(registers + 0xa8));
}

/// Queue 0: shared, with PASID; 16 entries, 8 of them for the limited portal.
static void set_up_accelerator(void) {
    const uint64_t tables = get(registers + 0x60);
    Bytes *const group = registers + (tables & 0xffff) * 0x100, *const queue = registers + (tables >> 16 & 0xffff) * 0x100;
    accelerator_command(5, 0);
    put32(queue, 16);
    put32(queue + 4, 8);
    put32(queue + 8, 10 << 4 | 1U << 28);
    put32(queue + 12, 21 | 4 << 5);
    put(group, 1);
    put(group + 32, 1);
    accelerator_command(1, 0);
    accelerator_command(6, 0);
}

/// MEMMOVE in the address space of `pasid`: 0 accepted, 1 full, 2 refused.
static uint32_t submit(uint32_t pasid, unsigned slot, uint32_t size) {
    const uint64_t words[8] = {(uint64_t)(3U << 24 | 0xc) << 32 | pasid,
                               VIRTUAL + record,
                               VIRTUAL + source,
                               VIRTUAL + target,
                               size,
                               0,
                               0,
                               0};
    Bytes *const at = portals + 0x1000 + slot * 64;
    for (unsigned i = 0; i < 8; ++i)
        put(at + 8 * i, words[i]);
    return get32(at);
}
static unsigned wait_for(unsigned n) {
    Bytes *const at = memory + areas[n] + record;
    for (unsigned i = 0; i < 5000 && *at == 0; ++i)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return *at;
}

// ---- what is checked -----------------------------------------------------------------------------------------------

static void each_moves_its_own(uint32_t first, uint32_t second) {
    lay_out(0, 0x1111000000000000);
    lay_out(1, 0x2222000000000000);
    check(submit(first, 0, 0x400) == 0, "the first PASID's submission", first);
    check(wait_for(0) == 1, "the first PASID's completion", memory[areas[0] + record]);
    check(holds(0, 0x1111000000000000, 0x400), "the first PASID's memory", 0);
    check(holds(1, 0x2222000000000000, 0) && memory[areas[1] + record] == 0, "the second PASID's memory was touched", 0);
    check(submit(second, 1, 0x800) == 0, "the second PASID's submission", second);
    check(wait_for(1) == 1, "the second PASID's completion", memory[areas[1] + record]);
    check(holds(1, 0x2222000000000000, 0x800), "the second PASID's memory", 0);
    check(holds(0, 0x1111000000000000, 0x400), "the first PASID's memory was touched", 0);
    puts("pasid: two PASIDs, same addresses, each moved its own memory");
}

static void others_are_refused(uint32_t unknown) {
    check(submit(unknown, 2, 64) == 2, "a PASID that is not allocated", unknown);
    check(submit(0x8000, 2, 64) == 2, "a host's number", 0);
    check(submit(0x40000000 | 1, 2, 64) == 2, "reserved bits", 0);
    const uint32_t unbound = allocate();
    check(submit(unbound, 2, 64) == 2, "a PASID that is not bound", unbound);
    release(unbound);
    check(status(run(0x02 | (uint64_t)unbound << 16, 0)) == 0x10, "a second free", unbound);
    puts("pasid: unknown, unbound and freed PASIDs are refused");
}

static uint32_t free_in_flight(uint32_t pasid) {
    lay_out(0, 0x3333000000000000);
    lay_out(1, 0x4444000000000000);
    lay_out(2, 0x5555000000000000);
    for (unsigned i = 0; i < 4; ++i)
        check(submit(pasid, i, target) <= 1, "a large copy", i);
    release(pasid);
    check(submit(pasid, 0, 64) == 2, "a freed PASID", pasid);
    const uint32_t again = allocate();
    check(again == pasid, "the number is free at once", again);
    bind(again, make_table(2));
    check(submit(again, 5, 0x400) == 0, "the new life's submission", again);
    check(wait_for(2) == 1, "the new life's completion", memory[areas[2] + record]);
    check(holds(2, 0x5555000000000000, 0x400), "the new life's memory", 0);
    check(holds(1, 0x4444000000000000, 0), "a neighbour's memory was touched", 0);
    // What the old life moved stayed where it belongs: of its target any part may have been written.
    for (unsigned i = 0; i < target; i += 8)
        check(get(memory + areas[0] + i) == 0x3333000000000000UL + i, "the old life's source", i);
    for (unsigned i = guard; i < area; i += 8)
        check(get(memory + areas[0] + i) == (~0x3333000000000000UL ^ i), "beyond the old life's target", i);
    puts("pasid: freed in flight and allocated again");
    return again;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    commands = map_file("/dev/mem", 0xc1fff000, page);
    check(get32(commands) == 0x584f4e49 && get32(commands + 4) == 1, "no virtual command interface", get32(commands));
    find_accelerator();
    get_memory();
    set_up_accelerator();
    const uint32_t first = allocate(), second = allocate();
    check(first != second, "two numbers", first);
    bind(first, make_table(0));
    bind(second, make_table(1));
    each_moves_its_own(first, second);
    others_are_refused(second + 1);
    const uint32_t again = free_in_flight(first);
    release(again);
    release(second);
    for (unsigned i = 0; i < 1000 && used() != 0; ++i) // until the accelerator has let go
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    check(used() == 0, "PASIDs that are left", used());
    puts("pasid: all is well");
    return 0;
}
