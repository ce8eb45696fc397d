// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/device_slots.hpp"

#include <algorithm>
#include <utility>

namespace inox {

bool DeviceSlots::any(SlotState state) const {
    return std::ranges::any_of(states_, [&](const auto& one) { return one.load(std::memory_order_relaxed) == state; });
}

std::optional<std::uint8_t> DeviceSlots::choose() const {
    std::optional<std::uint8_t> best;
    const auto rank = [&](unsigned slot) { return std::pair{state(slot) == SlotState::torn_out, left_.at(slot)}; };
    for (std::uint8_t slot = 0; slot < count; ++slot)
        if ((state(slot) == SlotState::empty || state(slot) == SlotState::torn_out) &&
            (!best || rank(slot) < rank(*best)))
            best = slot;
    return best;
}

void DeviceSlots::promise(unsigned slot) {
    if (state(slot) == SlotState::empty || state(slot) == SlotState::torn_out)
        set(slot, SlotState::promised);
}

void DeviceSlots::fill(unsigned slot, bool permanent) {
    if (state(slot) == SlotState::empty || state(slot) == SlotState::promised || state(slot) == SlotState::torn_out)
        set(slot, permanent ? SlotState::permanent : SlotState::filled);
}

void DeviceSlots::leave(unsigned slot, SlotState next) {
    if (state(slot) != SlotState::filled)
        return;
    set(slot, next);
    left_.at(slot) = ++departures_;
}

void DeviceSlots::vacate(unsigned slot) {
    if (state(slot) == SlotState::promised)
        set(slot, SlotState::empty);
    else
        leave(slot, SlotState::empty);
}

void DeviceSlots::tear_out(unsigned slot, bool driven) { leave(slot, driven ? SlotState::held : SlotState::torn_out); }

DeviceSlots::Set DeviceSlots::take_ejected() {
    const Set gone{ejected_.exchange(0)};
    for (unsigned slot = 0; slot < count; ++slot)
        if (gone.test(slot) && (state(slot) == SlotState::torn_out || state(slot) == SlotState::held))
            set(slot, SlotState::empty);
    return gone;
}

} // namespace inox
