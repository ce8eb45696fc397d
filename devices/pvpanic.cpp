// SPDX-License-Identifier: Apache-2.0
#include "devices/pvpanic.hpp"

#include <algorithm>

namespace devices {

void PvPanic::read(std::uint64_t, std::span<std::byte> data) noexcept {
    std::ranges::fill(data, std::byte{panicked | crash_loaded});
}

void PvPanic::write(std::uint64_t, std::span<const std::byte> data) noexcept {
    const auto events = std::to_integer<std::uint8_t>(data.front());
    if (events & panicked)
        events_.panicked(false);
    else if (events & crash_loaded)
        events_.panicked(true);
}

} // namespace devices
