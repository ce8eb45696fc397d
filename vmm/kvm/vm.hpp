// SPDX-License-Identifier: Apache-2.0
// One KVM virtual machine: memory slots, interrupt routing, doorbells, vCPUs.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/os.hpp"
#include "vmm/bus/guest_mappings.hpp"
#include "vmm/bus/irq.hpp"
#include "vmm/kvm/irq_router.hpp"
#include "vmm/kvm/vcpu.hpp"
#include "vmm/kvm/vm_state.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

/// /dev/kvm itself. Errors: kvm_missing, kvm_denied (names the group to join), kvm_unusable.
class Kvm {
public:
    static Result<Kvm> open();
    [[nodiscard]] int fd() const { return fd_.get(); }
    /// 0 when the capability (KVM_CAP_*) is absent.
    [[nodiscard]] int check(int capability) const;
    /// What the host can offer a guest (KVM_GET_SUPPORTED_CPUID).
    [[nodiscard]] Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;
    /// The MSRs that KVM says are state, and those that it keeps but does not list: see vcpu_state.hpp.
    [[nodiscard]] Result<std::vector<std::uint32_t>> state_msrs() const;

    /// Asks for it now, for a process that is forked later: it can use this object, and need not ask again.
    [[nodiscard]] Result<void> remember();

private:
    explicit Kvm(UniqueFd fd) : fd_{std::move(fd)} {}
    UniqueFd fd_;
    std::optional<std::vector<kvm_cpuid_entry2>> supported_{}; ///< empty: not remembered
};

class Vm final : public Irqs, public Doorbells, public GuestMappings {
public:
    /// VM with this RAM and with in-kernel PIC, IO-APIC and local APICs. `memory` must outlive it. When its pages are
    /// tracked, so they are here from the first instruction on.
    static Result<std::unique_ptr<Vm>> create(const Kvm& kvm, const GuestMemory& memory);
    /// Whether KVM keeps a log of the pages of RAM that vCPUs, and it itself, write; not at first. The log begins
    /// empty. It makes a guest's huge pages small. May wait some milliseconds; any thread, one at a time.
    Result<void> log_writes(bool on);
    /// Adds KVM's log to `pages`, and empties it. Any thread, one at a time.
    Result<void> collect_writes(DirtyPages& pages);

    [[nodiscard]] int fd() const { return fd_.get(); }
    Result<Registration> map(Range<Gpa> range, std::span<std::byte> host, bool read_only,
                             const char* log_name) override;
    Result<std::unique_ptr<Vcpu>> create_vcpu(unsigned id);
    /// From now on instructions KVM cannot emulate are EmulationFailure at any privilege, without a pending exception.
    Result<void> report_emulation_failures();
    /// Reads and writes of this MSR are MsrAccess exits. Before vCPUs exist; a second call replaces the first.
    Result<void> trap_msr(std::uint32_t index);

    Result<std::unique_ptr<IrqLine>> line(unsigned gsi, TriggerMode mode) override;
    Result<std::unique_ptr<MsiVector>> msi() override;
    Result<Registration> add(Gpa address, unsigned size, std::optional<std::uint64_t> match,
                             const EventFd& event) override;
    [[nodiscard]] const IrqRouter& router() const { return *router_; }
    /// The guest's kvm-clock, in nanoseconds.
    [[nodiscard]] Result<std::uint64_t> clock() const;
    Result<void> set_clock(std::uint64_t nanoseconds);
    /// While no vCPU runs. kvm-clock is put back together with the TSC, by whoever has both.
    [[nodiscard]] Result<VmState> save() const;
    Result<void> restore(const VmState& state);
    /// KVM learns of a VFIO group's or device's file, before the device opens, and forgets it with the registration: it
    /// must know of DMA that bypasses the caches. One thread at a time.
    Result<Registration> add_vfio_file(int file);

private:
    Vm(const Kvm& kvm, UniqueFd fd);
    Result<void> map_ram(const GuestMemory& memory);
    Result<void> set_ram(kvm_userspace_memory_region slot);
    UniqueFd fd_;
    std::unique_ptr<IrqRouter> router_;
    std::mutex slots_mutex_;
    std::vector<bool> slots_used_;                 // guarded by slots_mutex_; index is the slot number
    std::vector<kvm_userspace_memory_region> ram_; // its slots, in the order of its pages
    std::size_t run_size_{};
    UniqueFd vfio_; // KVM's VFIO device, once there is a file to tell it of
};

} // namespace inox
