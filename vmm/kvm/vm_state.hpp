// SPDX-License-Identifier: Apache-2.0
// What KVM keeps of a machine beside its vCPUs, as values. Slots, routes and doorbells are made anew by who made them.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstdint>

namespace inox {

class State;

struct VmState {
    /// The two PICs and the IO-APIC. The levels of level-triggered pins are not in it: whoever holds one up raises it
    /// again.
    std::array<kvm_irqchip, 3> chips{};
    std::uint64_t clock{0}; ///< kvm-clock in nanoseconds
    std::uint64_t tsc{0};   ///< the TSC of all vCPUs at that moment
    std::uint64_t wall{0};  ///< the host's real time then, in nanoseconds since 1970

    void state(State& state);
};

} // namespace inox
