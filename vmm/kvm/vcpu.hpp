// SPDX-License-Identifier: Apache-2.0
// One virtual CPU: its KVM descriptor, run page, and exits as values.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "vmm/base/address.hpp"
#include "vmm/base/os.hpp"
#include "vmm/kvm/vcpu_state.hpp"

namespace inox {

namespace vm_exit {
/// `data` holds `count` accesses of `size` bytes, in the run page: fill it for reads before the next run().
struct Port {
    IoPort port;
    bool write;
    unsigned size; ///< 1, 2 or 4
    std::span<std::byte> data;
};
struct Mmio {
    Gpa address;
    bool write;
    std::span<std::byte> data; ///< 1 to 8 bytes, in the run page
};
struct Halt {};        ///< only without an in-kernel local APIC
struct Interrupted {}; ///< kicked, or a signal came
struct Shutdown {};    ///< triple fault
/// A breakpoint or a step that set_guest_debug() asked for, or an exception of the guest's own that such a request
/// intercepts.
struct Debug {
    std::uint32_t exception; ///< 1 (#DB) or 3 (#BP)
    std::uint64_t pc;        ///< linear; of #BP the instruction itself
    std::uint64_t dr6;
};
struct SystemEvent {
    std::uint32_t type; ///< KVM_SYSTEM_EVENT_*
};
struct MsrAccess {
    bool write;
    std::uint32_t index;
    std::uint64_t* data;  ///< in the run page
    std::uint8_t* failed; ///< set to 1 for #GP
};
/// KVM could not emulate an instruction. `bytes` is empty when the kernel did not hand them out.
struct EmulationFailure {
    std::uint32_t suberror;
    std::array<std::uint8_t, 15> bytes;
    std::uint8_t size;
};
struct EntryFailure {
    std::uint64_t hardware_reason;
};
struct Failed { ///< KVM_RUN itself failed
    int sys_errno;
    std::optional<Gpa> address{}; ///< EFAULT: whose page the host has not, where this KVM tells (since Linux 6.8)
};
struct Unknown {
    std::uint32_t reason;
};
} // namespace vm_exit

/// An exception to be raised at the instruction the vCPU stands at.
struct GuestException {
    std::uint8_t vector{};
    std::optional<std::uint32_t> error_code{};
    std::optional<std::uint64_t> cr2{};
};

using VmExit = std::variant<vm_exit::Port, vm_exit::Mmio, vm_exit::Halt, vm_exit::Interrupted, vm_exit::Shutdown,
                            vm_exit::Debug, vm_exit::SystemEvent, vm_exit::MsrAccess, vm_exit::EmulationFailure,
                            vm_exit::EntryFailure, vm_exit::Failed, vm_exit::Unknown>;

/// What KVM_GET_XSAVE gives.
using XsaveArea = std::array<std::byte, 4096>;

/// All calls belong to the vCPU's own thread, except interrupt().
class Vcpu {
public:
    /// `xsave_size`: KVM_CAP_XSAVE2 of the VM.
    Vcpu(unsigned id, UniqueFd fd, Mapping run, std::size_t xsave_size = 0);

    [[nodiscard]] unsigned id() const { return id_; }
    /// Runs the guest until something needs attention.
    VmExit run() noexcept;
    /// Makes the current or the next run() return Interrupted. Any thread; pair it with a signal to the vCPU's thread.
    void interrupt() noexcept { std::atomic_ref{kvm_run().immediate_exit}.store(1, std::memory_order_release); }
    /// Whether run() was interrupted, or will be, by interrupt().
    [[nodiscard]] bool interrupt_asked() const noexcept {
        return std::atomic_ref{kvm_run().immediate_exit}.load(std::memory_order_acquire) != 0;
    }
    /// Forgets interrupt().
    void clear_interrupt() noexcept { std::atomic_ref{kvm_run().immediate_exit}.store(0, std::memory_order_release); }

    Result<void> set_cpuid(std::span<const kvm_cpuid_entry2> entries);
    Result<void> set_msrs(std::span<const kvm_msr_entry> entries);
    [[nodiscard]] Result<kvm_regs> regs() const;
    Result<void> set_regs(const kvm_regs& regs);
    [[nodiscard]] Result<kvm_sregs> sregs() const;
    Result<void> set_sregs(const kvm_sregs& sregs);
    [[nodiscard]] Result<kvm_fpu> fpu() const;
    Result<void> set_fpu(const kvm_fpu& fpu);
    /// The state that XSAVE knows, in its standard form.
    [[nodiscard]] Result<XsaveArea> xsave() const;
    Result<void> set_xsave(const XsaveArea& state);
    [[nodiscard]] Result<std::uint64_t> msr(std::uint32_t index) const;
    /// What ends run() with vm_exit::Debug from now on.
    Result<void> set_guest_debug(const kvm_guest_debug& debug);
    /// At the next run(); it ends a halt.
    Result<void> inject_nmi();
    /// The guest was stopped, which its watchdogs are not to take for a lockup. No effect without kvm-clock.
    void tell_clock_stopped() noexcept;
    /// Moves the guest's TSC by this many of its ticks. False when this KVM cannot.
    bool shift_tsc(std::int64_t ticks) noexcept;
    /// At the next run().
    Result<void> inject(const GuestException& exception);
    /// Where the guest's page tables put a linear address; nullopt when nowhere.
    [[nodiscard]] std::optional<Gpa> physical(std::uint64_t linear) const;
    /// The guest's PKRU; 0 where KVM does not keep one.
    [[nodiscard]] Result<std::uint32_t> pkru() const;
    /// KVM_MP_STATE_*
    [[nodiscard]] Result<std::uint32_t> mp_state() const;
    /// Frequency of the guest's TSC; 0 when KVM does not say.
    [[nodiscard]] std::uint32_t tsc_khz() const;
    /// Halted with interrupts off, or never started: only another vCPU could wake it.
    [[nodiscard]] bool stuck() const;
    /// Runs with interrupts off while one waits for it.
    [[nodiscard]] bool deaf() const;

    /// All that the guest can see of this vCPU, while no vCPU of the machine runs and none has an exit to be finished
    /// (see vcpu_state.hpp). `msrs`: Kvm::state_msrs().
    [[nodiscard]] Result<VcpuState> save(std::span<const std::uint32_t> msrs) const;
    /// Before the first run(), with the memory in place. kvm_unusable where this KVM refuses a part, which is named.
    Result<void> restore(const VcpuState& state);
    /// KVM_VCPU_TSC_OFFSET; nullopt when this KVM has none.
    [[nodiscard]] std::optional<std::uint64_t> tsc_offset() const noexcept;
    bool set_tsc_offset(std::uint64_t offset) noexcept;

private:
    [[nodiscard]] Result<std::vector<kvm_msr_entry>> read_msrs(std::span<const std::uint32_t> indices) const;
    Result<void> restore_msrs(std::span<const kvm_msr_entry> msrs);
    [[nodiscard]] VmExit failure(int error) const noexcept;
    [[nodiscard]] struct kvm_run& kvm_run() const {
        return *reinterpret_cast<struct kvm_run*>(run_.bytes().data()); // NOLINT: the kernel's layout
    }
    [[nodiscard]] VmExit port_exit() const;
    [[nodiscard]] VmExit internal_error() const;

    unsigned id_;
    UniqueFd fd_;
    Mapping run_;
    std::size_t xsave_size_;                ///< what KVM_GET_XSAVE2 fills; 0: KVM has only KVM_GET_XSAVE
    std::vector<kvm_cpuid_entry2> cpuid_{}; ///< as set: KVM's own changes with the guest's registers
};

} // namespace inox
