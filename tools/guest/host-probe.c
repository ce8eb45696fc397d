// SPDX-License-Identifier: Apache-2.0
// host-probe: what tools/lab must know of this machine, as two words on one line:
//   the TSC's rate in kHz, measured against the clock for 50 ms ("cpu MHz" is the current clock of a core, not the TSC)
//   /dev/kvm: good, interpreting (guest code goes through an instruction emulator), missing, denied or broken
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static long tsc_khz(void) {
    const double start = now();
    const unsigned long long first = __rdtsc();
    usleep(50000);
    const unsigned long long last = __rdtsc();
    return (long)((double)(last - first) / (now() - start) / 1000);
}

// Seconds a guest needs for 20000 turns of a two-instruction loop in real mode; below 0 when it could not run.
static double guest_loop(int kvm) {
    static const unsigned char code[] = {0xb9, 0x20, 0x4e, 0x49, 0x75, 0xfd, 0xf4}; // mov cx,20000; dec cx; jnz; hlt
    const int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const struct kvm_userspace_memory_region region = {0, 0, 0x1000, 4096, (unsigned long)page};
    if (vm < 0 || page == MAP_FAILED || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0) return -1;
    memcpy(page, code, sizeof code);
    const int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    const int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run = mmap(0, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
    struct kvm_sregs sregs;
    const struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
    if (cpu < 0 || run == MAP_FAILED || ioctl(cpu, KVM_GET_SREGS, &sregs) < 0) return -1;
    sregs.cs.base = sregs.cs.selector = 0;
    if (ioctl(cpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(cpu, KVM_SET_REGS, &regs) < 0) return -1;
    const double start = now();
    if (ioctl(cpu, KVM_RUN, 0) < 0 || run->exit_reason != KVM_EXIT_HLT) return -1;
    return now() - start;
}

static const char *kvm_state(void) {
    const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) return errno == EACCES || errno == EPERM ? "denied" : "missing";
    for (int attempt = 0; attempt < 3; ++attempt) { // a real CPU needs well below 1 ms, an interpreter about 100
        const double seconds = guest_loop(kvm);
        if (seconds < 0) return "broken";
        if (seconds < 0.02) return "good";
    }
    return "interpreting";
}

int main(void) {
    printf("%ld %s\n", tsc_khz(), kvm_state());
    return 0;
}
