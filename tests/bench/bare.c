// SPDX-License-Identifier: Apache-2.0
// The yardstick of the start-up benchmark: the KVM calls inox makes for one vCPU and 128 MiB, in a straight line, with a
// guest that writes one byte to the serial port. Whatever inox takes beyond this program is its own.
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void add_irqfd(int vm, uint32_t gsi) {
    struct kvm_irqfd irqfd;
    memset(&irqfd, 0, sizeof irqfd);
    irqfd.fd = (uint32_t)eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    irqfd.gsi = gsi;
    check(ioctl(vm, KVM_IRQFD, &irqfd) == 0, "KVM_IRQFD");
}

static void set_cpuid(int kvm, int vcpu) {
    static struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[256];
    } cpuid;
    cpuid.head.nent = 256;
    check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0, "KVM_GET_SUPPORTED_CPUID");
    check(ioctl(vcpu, KVM_SET_CPUID2, &cpuid) == 0, "KVM_SET_CPUID2");
}

static void set_registers(int vcpu) {
    struct kvm_sregs sregs;
    check(ioctl(vcpu, KVM_GET_SREGS, &sregs) == 0, "KVM_GET_SREGS");
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    check(ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0, "KVM_SET_SREGS");
    struct kvm_regs regs;
    memset(&regs, 0, sizeof regs);
    regs.rip = 0x1000;
    regs.rflags = 2;
    check(ioctl(vcpu, KVM_SET_REGS, &regs) == 0, "KVM_SET_REGS");
}

int main(void) {
    // mov dx, 0x3f8; mov al, '!'; out dx, al; hlt
    static const uint8_t code[] = {0xba, 0xf8, 0x03, 0xb0, 0x21, 0xee, 0xf4};
    const size_t size = 128u << 20;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    check(kvm >= 0, "/dev/kvm");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    check(vm >= 0, "KVM_CREATE_VM");
    uint64_t identity = 0xfffbc000;
    check(ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity) == 0, "KVM_SET_IDENTITY_MAP_ADDR");
    check(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000) == 0, "KVM_SET_TSS_ADDR");

    int ram = memfd_create("ram", MFD_CLOEXEC);
    check(ram >= 0 && ftruncate(ram, (off_t)size) == 0, "memfd");
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, ram, 0);
    check(memory != MAP_FAILED, "mmap");
    memcpy(memory + 0x1000, code, sizeof code);
    struct kvm_userspace_memory_region region;
    memset(&region, 0, sizeof region);
    region.memory_size = size;
    region.userspace_addr = (uint64_t)(uintptr_t)memory;
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0, "KVM_SET_USER_MEMORY_REGION");

    check(ioctl(vm, KVM_CREATE_IRQCHIP, 0) == 0, "KVM_CREATE_IRQCHIP");

    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    check(vcpu >= 0, "KVM_CREATE_VCPU");
    size_t run_size = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    check(run != MAP_FAILED, "run page");
    set_cpuid(kvm, vcpu);
    set_registers(vcpu);
    add_irqfd(vm, 4);
    add_irqfd(vm, 1);
    for (;;) {
        check(ioctl(vcpu, KVM_RUN, 0) == 0, "KVM_RUN");
        if (run->exit_reason == KVM_EXIT_IO && run->io.port == 0x3f8) {
            check(write(STDOUT_FILENO, (char *)run + run->io.data_offset, 1) == 1, "write");
            return 0;
        }
        check(run->exit_reason == KVM_EXIT_IO, "unexpected exit");
    }
}
