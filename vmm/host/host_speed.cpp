// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_speed.hpp"

#include <algorithm>
#include <cpuid.h>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <linux/kvm.h>
#include <optional>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/os.hpp"

namespace inox {
namespace {

constexpr std::uint64_t code_address = 0x1000;
constexpr std::uint64_t instructions_per_turn = 2;
constexpr std::uint64_t turns = 0xffff'ffff; // more than any CPU can do in the time
constexpr long tick_ns = 10'000'000;
constexpr double interpreting_below = 10; // million instructions a second

/// Signals this thread again and again, so that KVM_RUN returns even if the first signal came too early.
class Ticker {
public:
    Ticker() {
        struct sigaction action {};
        action.sa_handler = [](int) {};
        ::sigaction(SIGALRM, &action, &before_);
        sigset_t alarm;
        ::sigemptyset(&alarm);
        ::sigaddset(&alarm, SIGALRM);
        ::pthread_sigmask(SIG_UNBLOCK, &alarm, &mask_before_); // the parent process may have blocked it
        sigevent event{};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = SIGALRM;
        event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
        const itimerspec period{{0, tick_ns}, {0, tick_ns}};
        running_ =
            ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0 && ::timer_settime(timer_, 0, &period, nullptr) == 0;
    }
    Ticker(const Ticker&) = delete;
    Ticker& operator=(const Ticker&) = delete;
    ~Ticker() {
        if (running_)
            ::timer_delete(timer_);
        ::pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
        ::sigaction(SIGALRM, &before_, nullptr);
    }
    [[nodiscard]] bool running() const { return running_; }

private:
    struct sigaction before_ {};
    sigset_t mask_before_{};
    timer_t timer_{};
    bool running_{};
};

bool set_up_registers(int vcpu) {
    kvm_sregs special{};
    if (::ioctl(vcpu, KVM_GET_SREGS, &special) != 0)
        return false;
    const kvm_segment code{.base = 0,
                           .limit = 0xffffffff,
                           .selector = 8,
                           .type = 0xb,
                           .present = 1,
                           .dpl = 0,
                           .db = 1,
                           .s = 1,
                           .l = 0,
                           .g = 1,
                           .avl = 0,
                           .unusable = 0,
                           .padding = 0};
    kvm_segment data = code;
    data.selector = 16;
    data.type = 3;
    special.cs = code;
    special.ds = special.es = special.fs = special.gs = special.ss = data;
    special.cr0 |= 1; // protected mode, no paging
    kvm_regs general{};
    general.rip = code_address;
    general.rcx = turns;
    general.rflags = 2;
    return ::ioctl(vcpu, KVM_SET_SREGS, &special) == 0 && ::ioctl(vcpu, KVM_SET_REGS, &general) == 0;
}

double thread_seconds() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); // wall time would blame KVM for other processes
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

/// The turns that are left; nullopt when the guest did anything else.
std::optional<std::uint64_t> run_until_tick(int vcpu) {
    kvm_regs general{};
    const bool interrupted = ::ioctl(vcpu, KVM_RUN, 0) != 0 && errno == EINTR;
    if (!interrupted || ::ioctl(vcpu, KVM_GET_REGS, &general) != 0)
        return std::nullopt;
    return general.rcx;
}

/// The best of several ticks, as other work on the host can only make one slower. The first warms up, and a tick may
/// come before the guest was entered at all.
std::optional<double> timed_run(int vcpu) {
    constexpr unsigned most_ticks = 50;
    constexpr unsigned good_ticks = 3;
    const Ticker ticker;
    auto left = ticker.running() ? run_until_tick(vcpu) : std::nullopt;
    double best = 0;
    for (unsigned tick = 0, good = 0; left && tick < most_ticks && good < good_ticks; ++tick) {
        const double start = thread_seconds();
        const auto now_left = run_until_tick(vcpu);
        const double seconds = thread_seconds() - start;
        if (now_left && *now_left < *left && seconds > 0) {
            best = std::max(best, static_cast<double>((*left - *now_left) * instructions_per_turn) / seconds / 1e6);
            ++good;
        }
        left = now_left;
    }
    return left && best > 0 ? std::optional{best} : std::nullopt;
}

} // namespace

std::optional<double> measure_kvm_speed(int kvm) {
    const UniqueFd vm{::ioctl(kvm, KVM_CREATE_VM, 0)};
    auto page = Mapping::create(page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!vm || !page)
        return std::nullopt;
    static constexpr std::uint8_t code[] = {0x49, 0x75, 0xfd, 0xf4}; // dec ecx; jnz back; hlt
    std::memcpy(page->bytes().data(), code, sizeof code);
    kvm_userspace_memory_region region{};
    region.guest_phys_addr = code_address;
    region.memory_size = page_size;
    region.userspace_addr = reinterpret_cast<std::uint64_t>(page->bytes().data()); // NOLINT: the kernel takes a number
    if (::ioctl(vm.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0)
        return std::nullopt;
    const UniqueFd vcpu{::ioctl(vm.get(), KVM_CREATE_VCPU, 0)};
    const int run_size = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (!vcpu || run_size <= 0 || !set_up_registers(vcpu.get()))
        return std::nullopt;
    return timed_run(vcpu.get());
}

bool interprets(bool vmx_or_svm, std::optional<double> million_instructions_per_second) {
    return !vmx_or_svm && million_instructions_per_second && *million_instructions_per_second < interpreting_below;
}

bool cpu_has_vmx_or_svm() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool vmx = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 5 & 1) != 0;
    return vmx || (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 2 & 1) != 0);
}

bool kvm_interprets() {
    static const bool answer = !cpu_has_vmx_or_svm() && [] {
        const UniqueFd kvm{::open("/dev/kvm", O_RDWR | O_CLOEXEC)};
        return kvm && interprets(false, measure_kvm_speed(kvm.get()));
    }();
    return answer;
}

} // namespace inox
