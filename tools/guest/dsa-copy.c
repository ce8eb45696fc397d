// SPDX-License-Identifier: Apache-2.0
// dsa-copy: a Linux program that uses the accelerator (docs/dsa.md) and PASIDs (docs/guest-abi.md) of its machine by plain
// stores, as root and without a driver. Two PASIDs with page tables of their own show different memory at the same
// address; each copies its own. One is freed in flight and allocated again. Ends with 0 and "all is well", or says what
// is wrong.
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { page = 4096, pages = 64 };
static const uint64_t commands_at = 0xc1fff000, device_address = 0x7f0000000000;

static void check(int good, const char *what) {
    if (good) return;
    printf("wrong: %s\n", what);
    fflush(stdout);
    exit(1);
}

static void *map(const char *path, size_t size, off_t offset) {
    const int fd = open(path, O_RDWR | O_SYNC);
    check(fd >= 0, path);
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    check(at != MAP_FAILED, path);
    close(fd);
    return at;
}

// ---- memory with known physical addresses

static uint64_t physical(const void *at) {
    const int fd = open("/proc/self/pagemap", O_RDONLY);
    uint64_t entry = 0;
    check(pread(fd, &entry, 8, (off_t)((uintptr_t)at / page * 8)) == 8 && entry >> 63, "pagemap");
    close(fd);
    return (entry & ((1ULL << 55) - 1)) * page;
}
static void *take_pages(size_t count) {
    void *at = mmap(NULL, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    check(at != MAP_FAILED && mlock(at, count * page) == 0, "memory");
    memset(at, 0, count * page);
    return at;
}

// A page table that shows `memory` at device_address.
static uint64_t make_table(unsigned char *memory) {
    uint64_t *level[4];
    for (int i = 0; i < 4; ++i) level[i] = take_pages(1);
    level[0][device_address >> 39 & 511] = physical(level[1]) | 7;
    level[1][device_address >> 30 & 511] = physical(level[2]) | 7;
    level[2][device_address >> 21 & 511] = physical(level[3]) | 7;
    for (int i = 0; i < pages; ++i) level[3][i] = physical(memory + i * page) | 7;
    return physical(level[0]);
}

// ---- PASIDs

static volatile uint64_t *commands;
static unsigned endpoint;

static uint64_t command(uint64_t word, uint64_t operand) {
    commands[0xe08 / 8] = operand;
    commands[0xe00 / 8] = word;
    uint64_t response;
    while ((response = commands[0xe10 / 8]) & 1) {}
    return response;
}
static unsigned status_of(uint64_t response) { return response >> 1 & 0x7f; }
static unsigned allocate(void) {
    const uint64_t response = command(1, 0);
    check(status_of(response) == 0, "allocating a PASID");
    return response >> 16 & 0xfffff;
}
static void bind_table(unsigned pasid, uint64_t root) {
    check(status_of(command(0xc0 | (uint64_t)pasid << 16 | (uint64_t)endpoint << 36, root)) == 0, "binding a page table");
}
static void release(unsigned pasid) { check(status_of(command(2 | (uint64_t)pasid << 16, 0)) == 0, "freeing a PASID"); }

// ---- the accelerator

static volatile uint32_t *registers;
static volatile uint64_t *portal; // limited, of queue 0

static unsigned run(unsigned code, unsigned operand) {
    registers[0xa0 / 4] = code << 20 | operand;
    while (registers[0xa8 / 4] >> 31) {}
    return registers[0xa8 / 4];
}

static int find_device(char *folder, size_t size) {
    DIR *list = opendir("/sys/bus/pci/devices");
    for (struct dirent *entry; list && (entry = readdir(list));) {
        unsigned id[2] = {0, 0};
        char path[300];
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/config", entry->d_name);
        const int fd = open(path, O_RDONLY);
        uint32_t word = 0;
        if (fd >= 0 && read(fd, &word, 4) == 4 && word == 0x0b258086) {
            snprintf(folder, size, "/sys/bus/pci/devices/%s", entry->d_name);
            check(sscanf(entry->d_name, "%*x:%*x:%x.%x", &id[0], &id[1]) == 2, "the device's address");
            endpoint = id[0] << 3 | id[1];
            return 1;
        }
        if (fd >= 0) close(fd);
    }
    return 0;
}

static void set_up(void) {
    char folder[300], path[320];
    check(find_device(folder, sizeof folder), "no accelerator");
    snprintf(path, sizeof path, "%s/config", folder);
    const int config = open(path, O_RDWR);
    uint16_t on = 6;
    check(pwrite(config, &on, 2, 4) == 2, "the command register");
    uint32_t head = 0;
    for (off_t at = 0x100; at != 0; at = head >> 20) {
        check(pread(config, &head, 4, at) == 4, "capabilities");
        const uint16_t pasid = 1, requests = 1, ats = 0x8000;
        if ((head & 0xffff) == 0x1b) check(pwrite(config, &pasid, 2, at + 6) == 2, "PASID");
        if ((head & 0xffff) == 0x0f) check(pwrite(config, &ats, 2, at + 6) == 2, "ATS");
        if ((head & 0xffff) == 0x13) check(pwrite(config, &requests, 2, at + 4) == 2, "page requests");
    }
    close(config);
    snprintf(path, sizeof path, "%s/resource0", folder);
    registers = map(path, 0x2000, 0);
    snprintf(path, sizeof path, "%s/resource2", folder);
    portal = map(path, page, page);
    check(registers[0] == 0x100, "version");
    check(run(5, 0) == 0, "reset");
    registers[0x600 / 4] = 16;
    registers[0x604 / 4] = 16;
    registers[0x608 / 4] = 10 << 4 | 1U << 28;
    registers[0x60c / 4] = 21 | 4 << 5;
    registers[0x400 / 4] = 1;
    registers[0x420 / 4] = 1;
    check(run(1, 0) == 0, "enabling the device");
    check(run(6, 0) == 0, "enabling the queue");
}

// A copy inside device_address's memory; the answer of the slot.
static unsigned submit(unsigned pasid, uint64_t from, uint64_t to, uint32_t size) {
    uint64_t words[8] = {pasid | (uint64_t)(3U << 24 | 0xc) << 32, device_address, device_address + from,
                         device_address + to, size};
    for (int i = 0; i < 8; ++i) portal[i] = words[i];
    return *(volatile uint32_t *)portal;
}
static int done(const unsigned char *memory) {
    for (int i = 0; i < 3000; ++i) {
        const int status = *(volatile const unsigned char *)memory;
        if (status) return status;
        usleep(1000);
    }
    return 0;
}

int main(void) {
    commands = map("/dev/mem", page, (off_t)commands_at);
    check((uint32_t)commands[0] == 0x584f4e49, "no PASID commands");
    set_up();
    unsigned char *memory[2];
    unsigned pasid[2];
    for (int i = 0; i < 2; ++i) {
        memory[i] = take_pages(pages);
        memset(memory[i] + page, 'a' + i, page);
        pasid[i] = allocate();
        bind_table(pasid[i], make_table(memory[i]));
    }
    for (int i = 0; i < 2; ++i) {
        check(submit(pasid[i], page, 2 * page, page) == 0, "submission");
        check(done(memory[i]) == 1, "completion");
        check(memcmp(memory[i] + page, memory[i] + 2 * page, page) == 0, "bytes copied");
        check(i == 1 || (memory[1][0] == 0 && memory[1][2 * page] == 0), "another PASID's memory changed");
        memory[i][0] = 0;
    }
    check(submit(0x1234, page, 2 * page, page) == 2, "a PASID that is nobody's");

    // Freed with work under way; the next owner of a number is not reached by it.
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 8; ++i) submit(pasid[0], 0, 32 * page, 31 * page);
        release(pasid[0]);
        memset(memory[0] + 3 * page, 0, page);
        memory[0][0] = 0;
        check(submit(pasid[0], page, 3 * page, page) == 2, "a freed PASID");
        pasid[0] = allocate();
        unsigned char *fresh = take_pages(pages);
        memset(fresh + page, 'x', page);
        bind_table(pasid[0], make_table(fresh));
        while (submit(pasid[0], page, 3 * page, page) == 1) {}
        check(done(fresh) == 1 && fresh[3 * page] == 'x' && fresh[32 * page] == 0, "the new life");
        check(memory[0][0] == 0 && memory[0][3 * page] == 0, "the old life's memory changed");
        memory[0] = fresh;
        memory[0][0] = 0;
    }
    release(pasid[0]);
    release(pasid[1]);
    check(run(2, 0) == 0, "disabling the device");
    check((uint32_t)(commands[1] >> 32) == 0, "a PASID is still in use");
    puts("dsa-copy: all is well");
    return 0;
}
