// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu.hpp"

#include <algorithm>
#include <cerrno>
#include <cpuid.h>
#include <cstring>
#include <sys/ioctl.h>

#include "vmm/base/bytes.hpp"
#include "vmm/kvm/lists.hpp"

namespace inox {

Vcpu::Vcpu(unsigned id, UniqueFd fd, Mapping run, std::size_t xsave_size)
    : id_{id}, fd_{std::move(fd)}, run_{std::move(run)}, xsave_size_{xsave_size} {}

/// Since Linux 6.8 KVM reports the page that it could not get, in an exit that Debian 12's headers do not have.
VmExit Vcpu::failure(int error) const noexcept {
    constexpr std::uint32_t exit_memory_fault = 39;
    struct MemoryFault {
        std::uint64_t flags;
        std::uint64_t gpa;
        std::uint64_t size;
    } fault{};
    const struct kvm_run& run = kvm_run();
    if (error != EFAULT || run.exit_reason != exit_memory_fault)
        return vm_exit::Failed{error};
    std::memcpy(&fault, &run.hw, sizeof fault); // where the union of all exits begins
    return vm_exit::Failed{error, Gpa{fault.gpa}};
}

VmExit Vcpu::run() noexcept {
    if (::ioctl(fd_.get(), KVM_RUN, 0) < 0) {
        if (errno == EINTR || errno == EAGAIN)
            return vm_exit::Interrupted{};
        return failure(errno);
    }
    struct kvm_run& run = kvm_run();
    switch (run.exit_reason) {
    case KVM_EXIT_IO:
        return port_exit();
    case KVM_EXIT_MMIO:
        return vm_exit::Mmio{Gpa{run.mmio.phys_addr}, run.mmio.is_write != 0,
                             std::as_writable_bytes(std::span{run.mmio.data}).first(std::min(run.mmio.len, 8U))};
    case KVM_EXIT_HLT:
        return vm_exit::Halt{};
    case KVM_EXIT_INTR:
        return vm_exit::Interrupted{};
    case KVM_EXIT_SHUTDOWN:
        return vm_exit::Shutdown{};
    case KVM_EXIT_DEBUG:
        return vm_exit::Debug{run.debug.arch.exception, run.debug.arch.pc, run.debug.arch.dr6};
    case KVM_EXIT_SYSTEM_EVENT:
        return vm_exit::SystemEvent{run.system_event.type};
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        return vm_exit::MsrAccess{run.exit_reason == KVM_EXIT_X86_WRMSR, run.msr.index,
                                  reinterpret_cast<std::uint64_t*>(&run.msr.data), &run.msr.error}; // NOLINT
    case KVM_EXIT_INTERNAL_ERROR:
        return internal_error();
    case KVM_EXIT_FAIL_ENTRY:
        return vm_exit::EntryFailure{run.fail_entry.hardware_entry_failure_reason};
    default:
        return vm_exit::Unknown{run.exit_reason};
    }
}

VmExit Vcpu::port_exit() const {
    const auto& io = kvm_run().io;
    const auto bytes = run_.bytes().subspan(io.data_offset, static_cast<std::size_t>(io.size) * io.count);
    return vm_exit::Port{IoPort{io.port}, io.direction == KVM_EXIT_IO_OUT, io.size, bytes};
}

VmExit Vcpu::internal_error() const {
    const struct kvm_run& run = kvm_run();
    vm_exit::EmulationFailure failure{run.internal.suberror, {}, 0};
    // The first data word carries flags; the kernel fills the instruction bytes only when it says so.
    if (run.internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run.emulation_failure.ndata >= 3 &&
        (run.emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0) {
        failure.size = std::min<std::uint8_t>(run.emulation_failure.insn_size, 15);
        std::memcpy(failure.bytes.data(), run.emulation_failure.insn_bytes, failure.size);
    }
    return failure;
}

Result<void> Vcpu::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
    TRY_VOID(kvm_list::send(fd_.get(), kvm_list::set_cpuid2, entries, "KVM_SET_CPUID2"));
    cpuid_.assign(entries.begin(), entries.end());
    return {};
}

Result<void> Vcpu::set_msrs(std::span<const kvm_msr_entry> entries) {
    const int set = TRY(kvm_list::send(fd_.get(), kvm_list::set_msrs, entries, "KVM_SET_MSRS"));
    if (static_cast<std::size_t>(set) < entries.size())
        return fail(Errc::kvm_unusable, format("KVM refuses MSR %#x", entries[static_cast<std::size_t>(set)].index),
                    "use a newer host kernel");
    return {};
}

Result<kvm_regs> Vcpu::regs() const {
    kvm_regs regs{};
    TRY_VOID(checked_ioctl(fd_.get(), KVM_GET_REGS, &regs, "KVM_GET_REGS"));
    return regs;
}

Result<void> Vcpu::set_regs(const kvm_regs& regs) {
    kvm_regs copy = regs;
    TRY_VOID(checked_ioctl(fd_.get(), KVM_SET_REGS, &copy, "KVM_SET_REGS"));
    return {};
}

Result<kvm_sregs> Vcpu::sregs() const {
    kvm_sregs sregs{};
    TRY_VOID(checked_ioctl(fd_.get(), KVM_GET_SREGS, &sregs, "KVM_GET_SREGS"));
    return sregs;
}

Result<void> Vcpu::set_sregs(const kvm_sregs& sregs) {
    kvm_sregs copy = sregs;
    TRY_VOID(checked_ioctl(fd_.get(), KVM_SET_SREGS, &copy, "KVM_SET_SREGS"));
    return {};
}

Result<kvm_fpu> Vcpu::fpu() const {
    kvm_fpu fpu{};
    TRY_VOID(checked_ioctl(fd_.get(), KVM_GET_FPU, &fpu, "KVM_GET_FPU"));
    return fpu;
}

Result<XsaveArea> Vcpu::xsave() const {
    XsaveArea state{};
    TRY_VOID(checked_ioctl(fd_.get(), kvm_list::get_xsave, state.data(), "KVM_GET_XSAVE"));
    return state;
}

Result<void> Vcpu::set_xsave(const XsaveArea& state) {
    XsaveArea copy = state;
    TRY_VOID(checked_ioctl(fd_.get(), kvm_list::set_xsave, copy.data(), "KVM_SET_XSAVE"));
    return {};
}

Result<std::uint64_t> Vcpu::msr(std::uint32_t index) const {
    struct { // kvm_msrs, which ends in a flexible array
        std::uint32_t count{1};
        std::uint32_t padding{};
        kvm_msr_entry entry{};
    } list;
    list.entry.index = index;
    if (TRY(checked_ioctl(fd_.get(), kvm_list::get_msrs, &list, "KVM_GET_MSRS")) != 1)
        return fail(Errc::kvm_unusable, format("KVM does not give MSR %#x", index), "use a newer host kernel");
    return list.entry.data;
}

Result<void> Vcpu::set_guest_debug(const kvm_guest_debug& debug) {
    kvm_guest_debug copy = debug;
    TRY_VOID(checked_ioctl(fd_.get(), KVM_SET_GUEST_DEBUG, &copy, "KVM_SET_GUEST_DEBUG"));
    return {};
}

Result<void> Vcpu::inject_nmi() {
    TRY_VOID(checked_ioctl(fd_.get(), KVM_NMI, std::uint64_t{0}, "KVM_NMI"));
    return {};
}

void Vcpu::tell_clock_stopped() noexcept { static_cast<void>(::ioctl(fd_.get(), KVM_KVMCLOCK_CTRL, 0)); }

bool Vcpu::shift_tsc(std::int64_t ticks) noexcept {
    const auto offset = tsc_offset();
    return offset && set_tsc_offset(*offset + static_cast<std::uint64_t>(ticks));
}

namespace {

bool tsc_offset_call(int fd, unsigned long request, std::uint64_t& offset) noexcept {
    kvm_device_attr attribute{};
    attribute.group = KVM_VCPU_TSC_CTRL;
    attribute.attr = KVM_VCPU_TSC_OFFSET;
    attribute.addr = reinterpret_cast<std::uint64_t>(&offset); // NOLINT: the kernel's interface
    return ::ioctl(fd, request, &attribute) == 0;
}

} // namespace

std::optional<std::uint64_t> Vcpu::tsc_offset() const noexcept {
    std::uint64_t offset = 0;
    return tsc_offset_call(fd_.get(), KVM_GET_DEVICE_ATTR, offset) ? std::optional{offset} : std::nullopt;
}

bool Vcpu::set_tsc_offset(std::uint64_t offset) noexcept {
    return tsc_offset_call(fd_.get(), KVM_SET_DEVICE_ATTR, offset);
}

Result<void> Vcpu::set_fpu(const kvm_fpu& fpu) {
    kvm_fpu copy = fpu;
    TRY_VOID(checked_ioctl(fd_.get(), KVM_SET_FPU, &copy, "KVM_SET_FPU"));
    return {};
}

Result<void> Vcpu::inject(const GuestException& exception) {
    kvm_vcpu_events events{};
    TRY_VOID(checked_ioctl(fd_.get(), KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS"));
    events.exception.injected = 1;
    events.exception.nr = exception.vector;
    events.exception.has_error_code = exception.error_code.has_value();
    events.exception.error_code = exception.error_code.value_or(0);
    events.flags = 0;
    if (exception.cr2) {
        auto special = TRY(sregs());
        special.cr2 = *exception.cr2;
        TRY_VOID(set_sregs(special));
    }
    TRY_VOID(checked_ioctl(fd_.get(), KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS"));
    return {};
}

std::optional<Gpa> Vcpu::physical(std::uint64_t linear) const {
    kvm_translation translation{};
    translation.linear_address = linear;
    if (!checked_ioctl(fd_.get(), KVM_TRANSLATE, &translation, "KVM_TRANSLATE") || translation.valid == 0)
        return std::nullopt;
    return Gpa{translation.physical_address};
}

Result<std::uint32_t> Vcpu::pkru() const {
    constexpr unsigned component = 9;
    constexpr std::size_t header_offset = 512; // of XSTATE_BV (SDM volume 1, 13.4)
    unsigned size = 0, offset = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(0xd, component, &size, &offset, &ecx, &edx) == 0 || size == 0 ||
        offset + 4 > XsaveArea{}.size())
        return 0;
    const auto area = TRY(xsave());
    const std::span<const std::byte> bytes{area};
    const bool in_use = (load_le(bytes.subspan(header_offset, 8)) >> component & 1) != 0;
    return in_use ? load_le<std::uint32_t>(bytes.subspan(offset, 4)) : 0;
}

Result<std::uint32_t> Vcpu::mp_state() const {
    kvm_mp_state state{};
    TRY_VOID(checked_ioctl(fd_.get(), KVM_GET_MP_STATE, &state, "KVM_GET_MP_STATE"));
    return state.mp_state;
}

std::uint32_t Vcpu::tsc_khz() const {
    return static_cast<std::uint32_t>(
        checked_ioctl(fd_.get(), KVM_GET_TSC_KHZ, std::uint64_t{0}, "KVM_GET_TSC_KHZ").value_or(0));
}

namespace {

constexpr std::uint64_t interrupt_flag = 1U << 9;

} // namespace

bool Vcpu::stuck() const {
    const auto state = mp_state();
    if (!state)
        return false;
    if (*state == KVM_MP_STATE_UNINITIALIZED || *state == KVM_MP_STATE_INIT_RECEIVED)
        return true;
    const auto registers = regs();
    return *state == KVM_MP_STATE_HALTED && registers && (registers->rflags & interrupt_flag) == 0;
}

bool Vcpu::deaf() const {
    // The interrupt request register: 256 bits in eight registers, 16 bytes apart (SDM volume 3, 11.4.1).
    static constexpr std::size_t irr = 0x200;
    static constexpr std::size_t irr_end = 0x280;
    const auto state = mp_state();
    const auto registers = regs();
    if (!state || *state != KVM_MP_STATE_RUNNABLE || !registers || (registers->rflags & interrupt_flag) != 0)
        return false;
    kvm_lapic_state apic{};
    if (!checked_ioctl(fd_.get(), KVM_GET_LAPIC, &apic, "KVM_GET_LAPIC"))
        return false;
    for (std::size_t at = irr; at < irr_end; at += 16)
        for (std::size_t i = 0; i < 4; ++i)
            if (apic.regs[at + i] != 0)
                return true;
    return false;
}

} // namespace inox
