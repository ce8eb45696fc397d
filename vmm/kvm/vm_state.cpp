// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vm_state.hpp"

#include <chrono>
#include <cstring>

#include "vmm/base/state.hpp"
#include "vmm/kvm/vm.hpp"

namespace inox {

void VmState::state(State& state) {
    state.version(1);
    static constexpr const char* names[] = {"pic_master", "pic_slave", "ioapic"};
    for (std::size_t i = 0; i < chips.size(); ++i) {
        state.bytes(names[i], std::as_writable_bytes(std::span{&chips[i].chip, 1}));
        chips[i].chip_id = static_cast<std::uint32_t>(i);
    }
    state.number("clock", clock);
    state.number("tsc", tsc);
    state.number("wall", wall);
}

Result<VmState> Vm::save() const {
    VmState out;
    for (std::size_t i = 0; i < out.chips.size(); ++i) {
        out.chips[i].chip_id = static_cast<std::uint32_t>(i);
        TRY_VOID(checked_ioctl(fd_.get(), KVM_GET_IRQCHIP, &out.chips[i], "KVM_GET_IRQCHIP"));
    }
    out.clock = TRY(clock());
    out.wall = static_cast<std::uint64_t>(
        std::chrono::nanoseconds{std::chrono::system_clock::now().time_since_epoch()}.count());
    return out;
}

/// After all vCPUs have their local APICs: setting the IO-APIC injects each pin whose interrupt is pending, and an APIC
/// that is set later would lose it.
Result<void> Vm::restore(const VmState& state) {
    for (auto chip : state.chips)
        TRY_VOID(checked_ioctl(fd_.get(), KVM_SET_IRQCHIP, &chip, "KVM_SET_IRQCHIP"));
    return {};
}

} // namespace inox
