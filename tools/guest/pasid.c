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

// The virtual command interface

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

// Memory whose physical addresses are known

enum { huge = 2 << 20, page = 4096, area = 0x60000, source = 0, target = 0x28000, record = 0x58000, guard = 0x59000, slots = 8 };
#define VIRTUAL 0x7f0000000000UL

static uint64_t physical_of(Bytes *at) {
    static int pagemap = -1;
    if (pagemap < 0)
        pagemap = open("/proc/self/pagemap", O_RDONLY);
    uint64_t entry = 0;
    check(pread(pagemap, &entry, 8, (off_t)((uintptr_t)at / page * 8)) == 8 && entry >> 63, "pagemap", entry);
    const uint64_t physical = (entry & ((1UL << 55) - 1)) * page;
    check(physical != 0, "physical address", entry);
    return physical;
}

/// Pages that lie where the kernel has them, each by itself.
static Bytes *single_pages(unsigned size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    check(at != MAP_FAILED && madvise(at, size, MADV_NOHUGEPAGE) <= 0 && mlock(at, size) == 0, "memory", size);
    memset(at, 0, size);
    return at;
}

/// Pages that lie side by side.
static Bytes *huge_page(void) {
    FILE *pool = fopen("/proc/sys/vm/nr_hugepages", "w");
    check(pool && fputs("2\n", pool) >= 0 && fclose(pool) == 0, "nr_hugepages", 0);
    void *at = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
    check(at != MAP_FAILED, "no huge page", 0);
    memset(at, 0, huge);
    return at;
}

/// Of what was submitted through this slot of the portal.
static unsigned record_of(unsigned slot) { return record + 64 * slot; }

/// Shows an area at VIRTUAL, in user pages of 4 KiB.
static uint64_t make_table(Bytes *bytes) {
    uint64_t *level[4];
    for (unsigned i = 0; i < 4; ++i)
        level[i] = (uint64_t *)single_pages(page);
    level[0][VIRTUAL >> 39 & 511] = physical_of((Bytes *)level[1]) | 7;
    level[1][VIRTUAL >> 30 & 511] = physical_of((Bytes *)level[2]) | 7;
    level[2][VIRTUAL >> 21 & 511] = physical_of((Bytes *)level[3]) | 7;
    for (unsigned i = 0; i < area / page; ++i)
        level[3][i] = physical_of(bytes + i * page) | 7;
    return physical_of((Bytes *)level[0]);
}

static void lay_out(Bytes *at, uint64_t seed) {
    for (unsigned i = 0; i < area; i += 8)
        put(at + i, i < target ? seed + i : ~seed ^ i);
    for (unsigned slot = 0; slot < slots; ++slot)
        put(at + record_of(slot), 0);
}
/// The first `size` bytes of the target are the source's, the rest of the area is as it was laid out.
static int holds(Bytes *at, uint64_t seed, unsigned size) {
    for (unsigned i = 0; i < area; i += 8) {
        uint64_t wanted = i < target ? seed + i : ~seed ^ i;
        if (i >= target && i < target + size)
            wanted = seed + (i - target);
        if ((i < record || i >= guard) && get(at + i) != wanted)
            return 0;
    }
    return 1;
}

// The accelerator

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
    check(get32(registers) == 0x100, "the accelerator's version", get32(registers));
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
                               VIRTUAL + record_of(slot),
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
/// The status in the completion record; 0 when there is none after five seconds.
static unsigned wait_for(Bytes *at, unsigned slot) {
    for (unsigned i = 0; i < 5000 && at[record_of(slot)] == 0; ++i)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return at[record_of(slot)];
}

// What is checked

static void each_moves_its_own(uint32_t first, Bytes *one, uint32_t second, Bytes *two) {
    lay_out(one, 0x1111000000000000);
    lay_out(two, 0x2222000000000000);
    check(submit(first, 0, 0x400) == 0, "the first PASID's submission", first);
    check(wait_for(one, 0) == 1, "the first PASID's completion", one[record_of(0)]);
    check(holds(one, 0x1111000000000000, 0x400), "the first PASID's memory", 0);
    check(holds(two, 0x2222000000000000, 0) && two[record_of(0)] == 0 && two[record_of(1)] == 0, "the second PASID's memory was touched", 0);
    check(submit(second, 1, 0x800) == 0, "the second PASID's submission", second);
    check(wait_for(two, 1) == 1, "the second PASID's completion", two[record_of(1)]);
    check(holds(two, 0x2222000000000000, 0x800), "the second PASID's memory", 0);
    check(holds(one, 0x1111000000000000, 0x400), "the first PASID's memory was touched", 0);
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

/// Frees `pasid`, which shows `old`, with work under way, again and again; each new life shows other pages. `neighbour`
/// is another PASID's.
static void free_in_flight(uint32_t pasid, Bytes *old, Bytes *neighbour) {
    const uint64_t elsewhere = 0x4444000000000000;
    lay_out(neighbour, elsewhere);
    unsigned left = 0; // submissions that were accepted and not complete when their PASID was gone
    unsigned rounds = 0;
    for (uint64_t round = 0; round < 20 || (left == 0 && round < 500); ++round) {
        const uint64_t seed = 0x3333000000000000 | round << 32, next = 0x5555000000000000 | round << 32;
        Bytes *const fresh = single_pages(area);
        lay_out(old, seed);
        lay_out(fresh, next);
        unsigned under_way = 0;
        for (unsigned i = 0; i < slots; ++i) {
            const uint32_t answer = submit(pasid, i, target);
            check(answer <= 1, "a large copy", i);
            under_way |= (answer == 0) << i;
        }
        release(pasid);
        for (unsigned i = 0; i < slots; ++i)
            left += under_way >> i & (get(old + record_of(i)) == 0);
        for (unsigned i = 0; i < slots; ++i)
            put(old + record_of(i), 0); // nothing of the old life comes after this
        check(submit(pasid, 0, 64) == 2, "a freed PASID", pasid);
        const uint32_t again = allocate();
        check(again == pasid, "the number is free at once", again);
        bind(again, make_table(fresh));
        uint32_t answer;
        while ((answer = submit(again, 5, 0x400)) == 1)
            ;
        check(answer == 0, "the new life's submission", answer);
        check(wait_for(fresh, 5) == 1, "the new life's completion", fresh[record_of(5)]);
        check(holds(fresh, next, 0x400), "the new life's memory", round);
        check(holds(neighbour, elsewhere, 0), "a neighbour's memory was touched", round);
        for (unsigned i = 0; i < slots; ++i)
            check(get(old + record_of(i)) == 0, "the old life's record was written after its end", round);
        // What the old life moved stayed where it belongs: of its target any part may have been written.
        for (unsigned i = 0; i < target; i += 8)
            check(get(old + i) == seed + i, "the old life's source", i);
        for (unsigned i = guard; i < area; i += 8)
            check(get(old + i) == (~seed ^ i), "beyond the old life's target", i);
        old = fresh;
        rounds = round + 1;
    }
    check(left != 0, "nothing was in flight when its PASID was freed", rounds);
    printf("pasid: freed in flight and allocated again, %u times; %u submissions were left\n", rounds, left);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    commands = map_file("/dev/mem", 0xc1fff000, page);
    check(get32(commands) == 0x584f4e49 && get32(commands + 4) == 1, "no virtual command interface", get32(commands));
    find_accelerator();
    set_up_accelerator();
    Bytes *const one = huge_page(), *const two = one + (1 << 20);
    const uint32_t first = allocate(), second = allocate();
    check(first != second, "two numbers", first);
    bind(first, make_table(one));
    bind(second, make_table(two));
    each_moves_its_own(first, one, second, two);
    others_are_refused(second + 1);
    free_in_flight(first, one, two);
    release(first);
    release(second);
    accelerator_command(2, 0); // off: it has let go of all
    check(used() == 0, "PASIDs that are left", used());
    puts("pasid: all is well");
    return 0;
}
