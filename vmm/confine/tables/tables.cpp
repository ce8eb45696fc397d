// SPDX-License-Identifier: Apache-2.0
// The lists of system calls, by kind of thread. To be read and reviewed: what is not here ends the run.
#include "vmm/confine/tables/rule.hpp"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <linux/vfio.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "devices/vfio/iommufd_uapi.hpp"
#include "vmm/kvm/lists.hpp"

namespace inox::confine {
namespace {

namespace uapi = devices::vfio::uapi;

constexpr std::uint64_t madv_collapse = 25; // Linux 6.1
constexpr std::uint64_t executable = PROT_EXEC;
constexpr std::uint64_t futex_command = low_word & ~std::uint64_t{FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME};

/// What the C library does for any thread, and what each thread may need to say how it ended.
Rules runtime() {
    return calls("read write close lseek newfstatat fstat poll ppoll munmap mremap brk sched_yield sched_getaffinity "
                 "rt_sigreturn rt_sigprocmask sigaltstack restart_syscall exit exit_group getpid gettid getpgrp "
                 "set_robust_list rseq getrandom clock_gettime clock_getres gettimeofday time clock_nanosleep "
                 "nanosleep") + // newfstatat: fstat of newer C libraries; time: where the vDSO cannot answer
           Rules{
               {"futex", {{1, futex_command, FUTEX_WAIT}}},
               {"futex", {{1, futex_command, FUTEX_WAKE}}},
               {"futex", {{1, futex_command, FUTEX_WAIT_BITSET}}},
               {"futex", {{1, futex_command, FUTEX_WAKE_BITSET}}},
               {"mmap", {without(2, executable), with(3, MAP_PRIVATE | MAP_ANONYMOUS)}},
               {"mprotect", {without(2, executable)}},
               {"madvise", {is(2, MADV_DONTNEED)}},
               {"tgkill", {own_process(0)}},
               {"rt_sigaction", {is_not(0, SIGSYS)}},
               {"rt_sigaction", {null(1)}}, // looks at a handler
               {"prctl", {is(0, PR_SET_NAME)}},
               {"prctl", {is(0, PR_GET_NAME)}},       // lines of the log have the name
               {"sendto", {null(4), null(5)}},        // send(2) to standard error
               {"epoll_ctl", {is(1, EPOLL_CTL_MOD)}}, // wakes the loop
               {"clone3", {}, ENOSYS}, // its flags are where a filter cannot look; the C library then takes clone
           } +
           ioctls({TIOCGPGRP, TCGETS, TCSETS, TCSETSW, TCSETSF}); // whoever ends the process restores the terminal
}

/// For threads that have no business with files: malloc reads /proc/sys/vm/overcommit_memory before it shrinks, and
/// goes on without.
Rules no_files() { return {{"openat", {}, EACCES}}; }

/// The making of a thread, which then takes its own list and gives up what its maker keeps.
Rules threads() {
    constexpr std::uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                                    CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    return calls("capget capset") + Rules{{"clone", {is(0, flags)}},
                                          {"seccomp", {is(0, SECCOMP_SET_MODE_FILTER), is(1, 0)}},
                                          {"prlimit64", {is(0, 0), null(2)}}}; // why a thread cannot be had
}

/// Reads and writes of a disk, where io_uring cannot do them.
Rules disk_io() {
    return calls("pread64 pwrite64 preadv pwritev preadv2 pwritev2 fsync fdatasync") +
           one_of("fallocate", 1,
                  {0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE}) +
           ioctls({BLKDISCARD, BLKZEROOUT});
}

/// The guest's doorbells and interrupts; devices that its driver starts and resets; pages of tables, given back.
Rules of_devices() {
    return one_of("fallocate", 1, {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE}) +
           calls("readv writev recvfrom recvmsg sendmsg shutdown io_uring_enter timerfd_settime epoll_ctl eventfd2") +
           ioctls({KVM_IRQFD, KVM_IOEVENTFD, kvm_list::set_gsi_routing, TUNSETOFFLOAD, TUNSETQUEUE, TIOCGWINSZ});
}

/// An assigned device that is in use: its registers, its interrupts, and what the guest maps for its DMA.
Rules of_assigned_devices() {
    return calls("pread64 pwrite64 mincore") +
           ioctls({KVM_SET_USER_MEMORY_REGION, VFIO_DEVICE_SET_IRQS, VFIO_DEVICE_RESET, VFIO_IOMMU_MAP_DMA,
                   VFIO_IOMMU_UNMAP_DMA, uapi::AttachPageTable::request, uapi::DetachPageTable::request,
                   uapi::Destroy::request, uapi::IoasMap::request, uapi::IoasUnmap::request, uapi::HwptAlloc::request,
                   uapi::HwptInvalidate::request}) +
           one_of("madvise", 2, {madv_collapse, MADV_POPULATE_WRITE, MADV_DONTFORK, MADV_DOFORK});
}

/// Requests to the broker: each has a pair of sockets, for its answer.
Rules asks_broker() { return calls("socketpair recvmsg sendmsg"); }

/// Looks at files by their paths, and reads them as far as Landlock lets it. The broker opens what is to be written.
Rules finds_files() {
    return calls("statx readlink readlinkat faccessat faccessat2 access getdents64 statfs") +
           Rules{{"openat", {without(2, O_ACCMODE | O_CREAT | O_TRUNC)}}};
}

/// Assigned devices that come or go.
Rules opens_assigned_devices() {
    return of_assigned_devices() + threads() + finds_files() + asks_broker() +
           calls("fstatfs eventfd2 epoll_ctl timerfd_settime") +
           ioctls({VFIO_GET_API_VERSION,
                   VFIO_CHECK_EXTENSION,
                   VFIO_SET_IOMMU,
                   VFIO_GROUP_GET_STATUS,
                   VFIO_GROUP_SET_CONTAINER,
                   VFIO_GROUP_UNSET_CONTAINER,
                   VFIO_GROUP_GET_DEVICE_FD,
                   VFIO_DEVICE_GET_INFO,
                   VFIO_DEVICE_GET_REGION_INFO,
                   VFIO_DEVICE_GET_IRQ_INFO,
                   VFIO_IOMMU_GET_INFO,
                   VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
                   VFIO_DEVICE_PCI_HOT_RESET,
                   uapi::BindIommufd::request,
                   uapi::IoasAlloc::request,
                   uapi::IoasIovaRanges::request,
                   uapi::GetHwInfo::request, //
                   KVM_CREATE_DEVICE,
                   KVM_SET_DEVICE_ATTR,
                   KVM_IRQFD,
                   KVM_IOEVENTFD,
                   kvm_list::set_gsi_routing}) +
           one_of("fcntl", 1, {F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC}) +
           Rules{{"mmap", {without(2, executable), with(3, MAP_SHARED)}}};
}

/// The state of vCPUs, for those that look at a guest from outside: a debugger, dumps, reports of hangs.
Rules of_cpu_state() {
    return ioctls({KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, KVM_GET_FPU, KVM_SET_FPU,
                   kvm_list::get_xsave, kvm_list::set_xsave, kvm_list::get_msrs, kvm_list::set_msrs,
                   KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_TRANSLATE, KVM_GET_MP_STATE, KVM_GET_LAPIC,
                   KVM_SET_GUEST_DEBUG, KVM_KVMCLOCK_CTRL});
}

Rules of_vcpu(Features features) {
    auto all = runtime() + no_files() + ioctls({KVM_RUN}) + of_devices() + of_cpu_state();
    return (features & vfio) != 0 ? all + of_assigned_devices() : all;
}

Rules of_api() {
    return runtime() + no_files() +
           calls("accept4 recvmsg sendmsg recvfrom getsockopt shutdown epoll_wait epoll_pwait epoll_ctl epoll_create1 "
                 "eventfd2 timerfd_create timerfd_settime geteuid") +
           ioctls({FIONBIO, FIONREAD}) + one_of("fcntl", 1, {F_GETFL, F_SETFL, F_DUPFD_CLOEXEC});
}

/// The vhost-user daemon of a shared folder may come back, at its socket.
Rules of_share() {
    return runtime() + no_files() + asks_broker() +
           calls("recvfrom recvmsg sendmsg shutdown eventfd2 epoll_ctl getsockopt faccessat faccessat2 access") +
           one_of("socket", 0, {AF_UNIX}) + one_of("fcntl", 1, {F_GETFL, F_SETFL});
}

/// Writes a core of the guest, with holes where it has no memory.
Rules of_dump() { return runtime() + no_files() + calls("pwrite64 pwritev ftruncate mincore fdatasync"); }

/// Writes a guest's memory and state to files that the broker opens, makes and names; looks which pages there are.
Rules of_snapshot() {
    return runtime() + no_files() + asks_broker() +
           calls("pread64 pwrite64 ftruncate fsync fdatasync fstat newfstatat") + one_of("fcntl", 1, {F_OFD_SETLK});
}

/// Hears of the end of the page server, and lets go those who wait for it.
Rules of_pages() { return runtime() + no_files() + calls("recvfrom") + ioctls({UFFDIO_UNREGISTER}); }

/// What KVM keeps of a machine, for a snapshot.
Rules of_machine_state() {
    return ioctls({KVM_GET_SREGS2, kvm_list::get_xsave2, KVM_GET_XCRS, KVM_GET_DEBUGREGS, KVM_GET_IRQCHIP,
                   kvm_list::get_msr_index_list, KVM_GET_DIRTY_LOG});
}

/// Connections of vsock and of GDB; files that are read or written while the guest runs, and at its end.
Rules of_files_and_sockets() {
    return finds_files() + asks_broker() + calls("pipe2") + // what passt says
           Rules{{"wait4", {is(2, WNOHANG)}}} +             // the end of the broker
           one_of("memfd_create", 1, {MFD_CLOEXEC}) +       // contents of an output that it replaces
           calls("fstatfs ftruncate getsockopt setsockopt getsockname getpeername") + one_of("socket", 0, {AF_UNIX}) +
           one_of("fcntl", 1, {F_GETFD, F_SETFD, F_SETFL, F_OFD_SETLK, F_OFD_GETLK, F_SETLK, F_GETLK});
}

/// Devices that come while the guest runs, and all of them when it starts anew.
Rules of_new_devices() {
    return calls("listen io_uring_setup io_uring_register timerfd_create") +
           Rules{{"socket", {is(0, AF_INET), with(1, SOCK_DGRAM)}}, // the settings of a tap
                 {"prctl", {is(0, PR_SET_VMA)}}} +
           one_of("fcntl", 1, {F_ADD_SEALS}) +
           one_of("memfd_create", 1,
                  {MFD_CLOEXEC | MFD_ALLOW_SEALING, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB}) +
           one_of("madvise", 2, {MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_HUGEPAGE, MADV_POPULATE_WRITE}) +
           calls("sendfile") + // kernels and initial RAM disks
           ioctls({TUNSETIFF, TUNSETVNETHDRSZ, SIOCETHTOOL, SIOCGIFFLAGS, SIOCGIFMTU, SIOCSIFFLAGS, SIOCGIFINDEX,
                   BLKGETSIZE64, BLKSSZGET, BLKPBSZGET, BLKIOMIN, BLKIOOPT});
}

/// A machine that is made anew when the guest reboots; and a small one that shows, after an instruction that KVM could
/// not execute, whether it interprets them all.
Rules of_another_machine() {
    return ioctls({KVM_GET_API_VERSION, KVM_CHECK_EXTENSION, kvm_list::get_supported_cpuid, KVM_CREATE_VM,
                   KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_TSS_ADDR, KVM_CREATE_IRQCHIP, KVM_GET_VCPU_MMAP_SIZE,
                   KVM_CREATE_VCPU, KVM_ENABLE_CAP, KVM_X86_SET_MSR_FILTER, kvm_list::set_cpuid2,
                   KVM_SET_USER_MEMORY_REGION, KVM_RUN}) +
           calls("timer_create timer_settime timer_delete") +
           Rules{{"mmap", {without(2, executable), with(3, MAP_SHARED)}}};
}

Rules of_loop(Features features) {
    auto all =
        threads() + disk_io() + of_api() + of_share() + of_dump() + of_devices() + of_cpu_state() +
        of_files_and_sockets() + of_another_machine() + of_snapshot() + of_machine_state() + of_pages() +
        ioctls({KVM_NMI, KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_GET_TSC_KHZ, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR}) +
        one_of("madvise", 2, {MADV_REMOVE, MADV_FREE, madv_collapse});
    std::erase_if(all, [](const Rule& rule) { return rule.call == "openat" && rule.error != 0; });
    if ((features & changing) != 0)
        all = all + of_new_devices();
    if ((features & vfio) != 0)
        all = all + opens_assigned_devices();
    return all;
}

/// Puts back what KVM keeps of a machine.
Rules of_restored_state() {
    return ioctls({KVM_SET_SREGS2, KVM_SET_XCRS, KVM_SET_DEBUGREGS, KVM_SET_LAPIC, KVM_SET_IRQCHIP, KVM_SET_MP_STATE,
                   KVM_SET_TSC_KHZ, KVM_HAS_DEVICE_ATTR, KVM_SET_PIT2, KVM_CREATE_PIT2});
}

/// A template, and each clone until it confines itself: its process, what a start does, and the lists of threads to
/// come. It opens files as far as Landlock lets it.
Rules of_cloner() {
    auto all = of_loop(all_features) + of_restored_state();
    // By the number of the process: a clone has another one
    std::erase_if(all, [](const Rule& rule) { return rule.call == "tgkill"; });
    constexpr std::uint64_t fork_flags = CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD;
    return all + Rules{{"clone", {is(0, fork_flags)}}} +
           calls(
               "openat wait4 setsid dup2 dup3 close_range signalfd4 getcwd readlink readlinkat mkdir unlink umask bind "
               "listen connect socketpair flock lchown fchownat tgkill getuid getgid getegid "
               "landlock_create_ruleset landlock_add_rule landlock_restrict_self pipe2 fcntl uname sysinfo") +
           one_of("socket", 0, {AF_UNIX}) +
           one_of("prctl", 0, {PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_PDEATHSIG}) +
           one_of("madvise", 2, {MADV_DOFORK, MADV_DONTFORK, MADV_DONTDUMP, MADV_HUGEPAGE});
}

} // namespace

Rules rules_of(ThreadKind kind, Features features) {
    switch (kind) {
    case ThreadKind::loop:
        return of_loop(features);
    case ThreadKind::vcpu:
        return of_vcpu(features);
    case ThreadKind::api:
        return of_api();
    case ThreadKind::watchdog:
    case ThreadKind::engine:
        return runtime() + no_files();
    case ThreadKind::disk:
        return runtime() + no_files() + disk_io();
    case ThreadKind::iommu:
        return runtime() + no_files() + ((features & vfio) != 0 ? of_assigned_devices() : Rules{});
    case ThreadKind::share:
        return of_share();
    case ThreadKind::assigned:
        return runtime() + opens_assigned_devices();
    case ThreadKind::dump:
        return of_dump();
    case ThreadKind::snapshot:
        return of_snapshot();
    case ThreadKind::pages:
        return of_pages();
    case ThreadKind::cloner:
        return of_cloner();
    case ThreadKind::start:
        break;
    }
    return {};
}

} // namespace inox::confine
