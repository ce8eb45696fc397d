// SPDX-License-Identifier: Apache-2.0
// ENQCMD, ENQCMDS and MOVDIR64B on pages KVM cannot write: KVM hands the instruction over as one it cannot emulate.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "iommu/pasid/enqcmd_execute.hpp"
#include "iommu/pasid/page_walk.hpp"
#include "vmm/base/log.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/kvm/vcpu.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

/// What happened to the guest's instructions so far. A snapshot may be torn between fields.
struct EnqueueCounts {
    std::uint64_t accepted{};
    std::uint64_t retried{};      ///< ENQCMD and ENQCMDS that set ZF
    std::uint64_t stores{};       ///< MOVDIR64B
    std::uint64_t faults{};       ///< exceptions raised in the guest
    std::uint64_t untranslated{}; ///< of these, PASIDs that are not in the translation table
    std::uint64_t nanoseconds{};  ///< spent between exit and re-entry, without reading and writing KVM's registers
};

/// One for all vCPUs of a machine; thread-safe.
class EnqueueEmulator {
public:
    /// Calls the function with the host's PASID while the guest's stays translated; false when it has no translation.
    using WithPasid = std::function<bool(iommu::GuestPasid, const std::function<void(iommu::HostPasid)>&)>;

    /// All outlive it.
    EnqueueEmulator(const GuestMemory& memory, MemoryBus& bus, WithPasid with_pasid);

    enum class Verdict : std::uint8_t {
        resumed,  ///< done, or an exception is on its way: enter the guest again
        not_ours, ///< another instruction, in ring 0: the failure stands
        failed,   ///< KVM refused its registers
    };
    /// On the vCPU's thread, after it exited with `failure`. Another instruction outside ring 0 gets #UD, as KVM itself
    /// would do.
    Verdict emulate(Vcpu& vcpu, const vm_exit::EmulationFailure& failure, std::uint64_t ia32_pasid) noexcept;

    [[nodiscard]] EnqueueCounts counts() const noexcept;

private:
    class Access;
    [[nodiscard]] iommu::EnqueueOutcome execute(const iommu::EnqueueInstruction& instruction,
                                                const iommu::CpuState& cpu, const iommu::Paging* paging) noexcept;
    Verdict finish(Vcpu& vcpu, kvm_regs& regs, const iommu::EnqueueInstruction& instruction,
                   const iommu::EnqueueOutcome& outcome) noexcept;
    Verdict raise(Vcpu& vcpu, const iommu::CpuFault& fault) noexcept;

    const GuestMemory& memory_;
    MemoryBus& bus_;
    WithPasid with_pasid_;
    std::uint8_t physical_bits_;
    log::Throttle limiter_{};
    std::atomic<std::uint64_t> accepted_{0};
    std::atomic<std::uint64_t> retried_{0};
    std::atomic<std::uint64_t> stores_{0};
    std::atomic<std::uint64_t> faults_{0};
    std::atomic<std::uint64_t> untranslated_{0};
    std::atomic<std::uint64_t> nanoseconds_{0};
};

/// The CPU as values, from KVM's registers.
[[nodiscard]] iommu::CpuState cpu_state(const kvm_regs& regs, const kvm_sregs& sregs, std::uint64_t ia32_pasid);
/// How that CPU translates, but for protection keys; nullopt when paging is off. `physical_bits`: MAXPHYADDR.
[[nodiscard]] std::optional<iommu::Paging> cpu_paging(const iommu::CpuState& cpu, const kvm_sregs& sregs,
                                                      std::uint8_t physical_bits);

} // namespace inox
