// SPDX-License-Identifier: Apache-2.0
#include "devices/debug_ports.hpp"

#include <algorithm>

namespace inox::devices {

void BootTimer::read(std::uint64_t, std::span<std::byte> data) noexcept { std::ranges::fill(data, std::byte{0xff}); }

void BootTimer::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if (offset == 0 && std::to_integer<std::uint8_t>(data.front()) == user_space_up)
        events_.user_space_up();
}

void DebugPorts::read(std::uint64_t, std::span<std::byte> data) noexcept { std::ranges::fill(data, std::byte{0xff}); }

void DebugPorts::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    constexpr auto timer = layout::port_boot_timer.start().raw() - ports.start().raw();
    if (offset == 0)
        events_.exit(std::to_integer<std::uint8_t>(data.front()));
    else if (offset == timer)
        boot_timer_.write(0, data);
}

} // namespace inox::devices
