// SPDX-License-Identifier: Apache-2.0
// What tells a guest that its time forked or jumped: a VM generation id ("Virtual Machine Generation ID", Microsoft,
// 2018) at layout::generation_id, and a vmclock page (the vmclock specification, 1.1; Linux's vmclock-abi.h) at
// layout::vm_clock. The page has counters only: it says that a clock may be wrong now, not what time it is.
#pragma once

#include "vmm/base/bytes.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

struct [[gnu::packed]] VmClock {
    static constexpr std::uint32_t the_magic = 0x4b4c4356; // "VCLK"
    static constexpr std::uint8_t no_counter = 0xff;
    static constexpr std::uint64_t has_generation = 1 << 8;
    static constexpr std::uint64_t notifies = 1 << 9;

    std::uint32_t magic{the_magic};
    std::uint32_t size{4 * KiB};
    std::uint16_t version{1};
    std::uint8_t counter_id{no_counter};
    std::uint8_t time_type{0}; ///< UTC
    std::uint32_t seq_count{0};
    std::uint64_t disruption_marker{0}; ///< grows with each jump of the guest's clocks
    std::uint64_t flags{has_generation | notifies};
    std::array<std::uint8_t, 0x48> no_time{}; ///< clock_status 0: unknown
    std::uint64_t vm_generation_counter{0};   ///< grows with each restore
};
static_assert(offsetof(VmClock, vm_generation_counter) == 0x68);

/// In front of a machine's first instruction; the guest may have overwritten what was there. False: no memory is there,
/// or the host has no random numbers.
bool start_generation(const GuestMemory& memory);
/// While no vCPU runs, and before the guest is notified: its time forked, as each restore makes it.
bool renew_generation(const GuestMemory& memory);
/// As renew_generation(), but its clocks only stood still: it moved.
bool disrupt_clock(const GuestMemory& memory);

} // namespace inox
