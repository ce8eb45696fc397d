// SPDX-License-Identifier: Apache-2.0
// Where a PCI function is on the host.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace inox::devices::vfio {

struct OpenOptions;

struct PciAddress {
    std::uint32_t segment{}; ///< 16 bits, or 32 on hosts with VMD
    std::uint8_t bus{};
    std::uint8_t slot{};     ///< 0..31
    std::uint8_t function{}; ///< 0..7

    /// "0000:01:00.0" or, on segment 0, "01:00.0"; nullopt for anything else.
    static std::optional<PciAddress> parse(std::string_view text);
    /// "0000:01:00.0".
    [[nodiscard]] std::string text() const;
    auto operator<=>(const PciAddress&) const = default;
};

/// The address, when the options make sense by themselves; config_value otherwise. Does not look at the host.
Result<PciAddress> check_options(const OpenOptions& options);

} // namespace inox::devices::vfio
