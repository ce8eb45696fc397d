// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace inox::devices::virtio {

/// An Ethernet address of one station.
struct MacAddress {
    std::array<std::uint8_t, 6> bytes{};

    /// "02:00:5e:10:00:01". Refuses groups, all zero, and anything but six pairs of hex digits.
    static Result<MacAddress> parse(std::string_view text);
    /// A locally administered address that depends on `seed` alone.
    static MacAddress derived(std::string_view seed);
    [[nodiscard]] std::string text() const;
    bool operator==(const MacAddress&) const = default;
};

} // namespace inox::devices::virtio
