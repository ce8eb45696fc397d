// SPDX-License-Identifier: Apache-2.0
// Drivers in user space, inside a guest: take a PCI device through the guest's own VFIO, for which the guest needs an
// IOMMU, and use it with DMA and an interrupt. virtio-blk: reads the first sector. QEMU's edu: copies a page in and out.
//   vfio-user 0000:00:04.0 [ADDRESS]     ADDRESS: the device is made to write there at last, where nothing is mapped
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define IOVA 0x1000000ULL // edu has 28 address bits
#define SIZE 0x10000
#define DESCRIPTORS 0x0000
#define AVAILABLE 0x1000
#define USED 0x2000
#define REQUEST 0x3000
#define STATUS 0x3010
#define DATA 0x4000
#define QUEUE_SIZE 16

static int device;
static unsigned char *memory;
static uint64_t bar_offset, common, notify;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void set(uint64_t offset, uint64_t value, unsigned size) {
    if (pwrite(device, &value, size, (off_t)(bar_offset + common + offset)) != (ssize_t)size)
        die("write a register");
}
static uint64_t get(uint64_t offset, unsigned size) {
    uint64_t value = 0;
    if (pread(device, &value, size, (off_t)(bar_offset + common + offset)) != (ssize_t)size)
        die("read a register");
    return value;
}

static int open_group(const char *address) {
    char path[128], link[256];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", address);
    ssize_t size = readlink(path, link, sizeof link - 1);
    if (size < 0)
        die(path);
    link[size] = 0;
    snprintf(path, sizeof path, "/dev/vfio/%s", strrchr(link, '/') + 1);
    int group = open(path, O_RDWR);
    if (group < 0)
        die(path);
    return group;
}

static void find_structures(uint64_t config) {
    unsigned char at = 0;
    if (pread(device, &at, 1, (off_t)config + 0x34) != 1)
        die("read configuration");
    while (at) {
        unsigned char cap[16];
        if (pread(device, cap, sizeof cap, (off_t)config + at) != sizeof cap)
            die("read a capability");
        uint32_t offset;
        memcpy(&offset, cap + 8, 4);
        if (cap[0] == 9 && cap[3] == 1)
            common = offset;
        if (cap[0] == 9 && cap[3] == 2)
            notify = offset;
        at = cap[1];
    }
}

static void descriptor(unsigned index, uint64_t address, uint32_t length, uint16_t flags) {
    struct {
        uint64_t address;
        uint32_t length;
        uint16_t flags, next;
    } one = {address, length, flags, (uint16_t)(index + 1)};
    memcpy(memory + DESCRIPTORS + 16 * index, &one, sizeof one);
}

/* Posts "read sector 0 to `data`" as the n-th request and rings. */
static void post(uint16_t n, uint64_t data) {
    memset(memory + REQUEST, 0, 16);
    memory[STATUS] = 0xff;
    descriptor(0, IOVA + REQUEST, 16, 1);
    descriptor(1, data, 512, 1 | 2);
    descriptor(2, IOVA + STATUS, 1, 2);
    volatile uint16_t *available = (volatile uint16_t *)(void *)(memory + AVAILABLE);
    available[2 + n % QUEUE_SIZE] = 0;
    __sync_synchronize();
    available[1] = (uint16_t)(n + 1);
    __sync_synchronize();
    uint16_t queue = 0;
    if (pwrite(device, &queue, 2, (off_t)(bar_offset + notify)) != 2)
        die("ring");
}

static void enable_interrupts(unsigned index, unsigned count, int *events) {
    unsigned char buffer[sizeof(struct vfio_irq_set) + 2 * sizeof(int)] = {0};
    struct vfio_irq_set *set_irqs = (struct vfio_irq_set *)(void *)buffer;
    set_irqs->argsz = (uint32_t)(sizeof *set_irqs + count * sizeof(int));
    set_irqs->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    set_irqs->index = index;
    set_irqs->count = count;
    for (unsigned i = 0; i < count; ++i)
        events[i] = eventfd(0, 0);
    memcpy(set_irqs->data, events, count * sizeof(int));
    if (ioctl(device, VFIO_DEVICE_SET_IRQS, set_irqs))
        die("interrupts");
}

static void await(int event) {
    struct pollfd wait = {event, POLLIN, 0};
    uint64_t count;
    if (poll(&wait, 1, 20000) != 1 || read(event, &count, sizeof count) != sizeof count) {
        fprintf(stderr, "no interrupt came\n");
        exit(1);
    }
}

static void drive_blk(const char *bad_address) {
    int events[2];
    enable_interrupts(VFIO_PCI_MSIX_IRQ_INDEX, 2, events);
    set(20, 0, 1);
    set(20, 1, 1);
    set(20, 3, 1);
    set(8, 1, 4);
    set(12, 3, 4); // VERSION_1, ACCESS_PLATFORM
    set(20, 11, 1);
    if (!(get(20, 1) & 8)) {
        fprintf(stderr, "the device does not take its features\n");
        exit(1);
    }
    set(22, 0, 2);
    set(24, QUEUE_SIZE, 2);
    set(26, 1, 2); // vector 1
    set(32, (uint32_t)(IOVA + DESCRIPTORS), 4), set(36, 0, 4);
    set(40, (uint32_t)(IOVA + AVAILABLE), 4), set(44, 0, 4);
    set(48, (uint32_t)(IOVA + USED), 4), set(52, 0, 4);
    set(28, 1, 2);
    set(20, 15, 1);

    post(0, IOVA + DATA);
    await(events[1]);
    if (memory[STATUS] != 0) {
        fprintf(stderr, "status %u\n", memory[STATUS]);
        exit(1);
    }
    printf("nested read %.20s\n", strtok((char *)memory + DATA, "\n"));
    fflush(stdout);
    if (bad_address) {
        post(1, strtoull(bad_address, NULL, 0));
        for (int i = 0; i < 100 && !(get(20, 1) & 0x40); ++i)
            usleep(50000);
        printf("nested fault %s\n", get(20, 1) & 0x40 ? "stopped the device" : "went unnoticed");
    }
    set(20, 0, 1);
}

enum { EDU_STATUS = 0x24, EDU_ACK = 0x64, EDU_FROM = 0x80, EDU_TO = 0x88, EDU_COUNT = 0x90, EDU_COMMAND = 0x98 };
#define EDU_BUFFER 0x40000ULL
#define EDU_BYTES 1024 // its last byte must not be the buffer's: QEMU 7.2 ends then

/* direction 0: memory to device, 2: back; with an interrupt. */
static void edu_copy(uint64_t from, uint64_t to, unsigned direction, int event) {
    set(EDU_FROM, from, 8);
    set(EDU_TO, to, 8);
    set(EDU_COUNT, EDU_BYTES, 8);
    set(EDU_COMMAND, 1 | direction | 4, 8);
    await(event);
    set(EDU_ACK, get(EDU_STATUS, 4), 4);
}

static void drive_edu(const char *bad_address) {
    int event;
    enable_interrupts(VFIO_PCI_MSI_IRQ_INDEX, 1, &event);
    for (unsigned i = 0; i < EDU_BYTES; ++i)
        memory[i] = (unsigned char)(i * 7 + 1);
    edu_copy(IOVA, EDU_BUFFER, 0, event);
    edu_copy(EDU_BUFFER, IOVA + DATA, 2, event);
    printf("nested edu %s\n", memcmp(memory, memory + DATA, EDU_BYTES) == 0 ? "copied" : "copied something else");
    fflush(stdout);
    if (bad_address) {
        memset(memory + DATA, 0x55, EDU_BYTES);
        edu_copy(EDU_BUFFER, strtoull(bad_address, NULL, 0), 2, event);
        printf("nested edu fault %s\n", memory[DATA] == 0x55 ? "harmless" : "wrote to memory");
    }
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    const char *bad_address = argc > 2 ? argv[2] : NULL;
    int container = open("/dev/vfio/vfio", O_RDWR);
    if (container < 0)
        die("/dev/vfio/vfio");
    int group = open_group(argv[1]);
    if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
        die("set container");
    if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
        die("set IOMMU");
    device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[1]);
    if (device < 0)
        die("get device");

    memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct vfio_iommu_type1_dma_map map = {.argsz = sizeof map,
                                           .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                                           .vaddr = (uintptr_t)memory,
                                           .iova = IOVA,
                                           .size = SIZE};
    if (memory == MAP_FAILED || ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
        die("map");

    struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
    struct vfio_region_info bar = {.argsz = sizeof bar, .index = VFIO_PCI_BAR0_REGION_INDEX};
    if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar))
        die("regions");
    bar_offset = bar.offset;
    uint32_t identity;
    if (pread(device, &identity, 4, (off_t)config.offset) != 4)
        die("identity");
    uint16_t command = 6; // memory, bus master
    if (pwrite(device, &command, 2, (off_t)config.offset + 4) != 2)
        die("command");
    if (identity == 0x11e81234) {
        drive_edu(bad_address);
    } else if (identity == 0x10421af4) {
        find_structures(config.offset);
        drive_blk(bad_address);
    } else {
        fprintf(stderr, "no driver for %08x\n", identity);
        return 1;
    }
    return 0;
}
