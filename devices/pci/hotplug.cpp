// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/hotplug.hpp"

#include "devices/state_fields.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::devices::pci {
namespace {

constexpr std::uint32_t bit(unsigned slot) { return std::uint32_t{1} << slot; }

} // namespace

void HotplugRegisters::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    std::uint32_t value = 0;
    if (data.size() == 4 && offset == added_offset)
        value = added_.exchange(0);
    else if (data.size() == 4 && offset == wanted_offset)
        value = wanted_.exchange(0);
    store_le(data, value);
}

void HotplugRegisters::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if (offset != eject_offset || data.size() != 4)
        return;
    const auto slots = load_le<std::uint32_t>(data);
    for (unsigned slot = 0; slot < 32; ++slot)
        if (slots & bit(slot)) {
            forget(slot); // otherwise the next device in the slot would be asked to leave
            eject_(slot);
        }
}

void HotplugRegisters::state(State& state) {
    state.version(1);
    atomic_number(state, "added", added_);
    atomic_number(state, "wanted", wanted_);
    state.check((added_ & wanted_) == 0, "a slot is both filled and to be emptied");
}

void HotplugRegisters::announce(unsigned slot) noexcept {
    wanted_ &= ~bit(slot);
    added_ |= bit(slot);
    line_->trigger();
}

void HotplugRegisters::ask_back(unsigned slot) noexcept {
    added_ &= ~bit(slot);
    wanted_ |= bit(slot);
    line_->trigger();
}

void HotplugRegisters::forget(unsigned slot) noexcept {
    added_ &= ~bit(slot);
    wanted_ &= ~bit(slot);
}

bool HotplugRegisters::remind() noexcept {
    if (added_ == 0 && wanted_ == 0)
        return false;
    line_->trigger();
    return true;
}

} // namespace inox::devices::pci
