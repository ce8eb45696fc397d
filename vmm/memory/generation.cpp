// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/generation.hpp"

#include <sys/random.h>

#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

bool draw_id(const GuestMemory& memory) {
    std::array<std::byte, 16> id{};
    return ::getrandom(id.data(), id.size(), 0) == static_cast<ssize_t>(id.size()) &&
           memory.write(layout::generation_id, id);
}

/// Nobody reads it meanwhile, so seq_count is never seen odd.
bool count(const GuestMemory& memory, bool forked) {
    auto clock = memory.read<VmClock>(layout::vm_clock);
    if (!clock)
        return false;
    clock->seq_count = (clock->seq_count | 1U) + 1;
    ++clock->disruption_marker;
    clock->vm_generation_counter += forked ? 1 : 0;
    return memory.write(layout::vm_clock, *clock);
}

} // namespace

bool start_generation(const GuestMemory& memory) {
    return memory.write(layout::vm_clock, VmClock{}) && draw_id(memory);
}

bool renew_generation(const GuestMemory& memory) { return count(memory, true) && draw_id(memory); }

bool disrupt_clock(const GuestMemory& memory) { return count(memory, false); }

} // namespace inox
