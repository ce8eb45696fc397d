// SPDX-License-Identifier: Apache-2.0
// SMBIOS 3.4 tables (DMTF DSP0134): what a guest reads as its hardware's name, serial number and UUID.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::boot {

/// In the order in which people write them: 8-4-4-4-12 hexadecimal digits.
using Uuid = std::array<std::uint8_t, 16>;
std::optional<Uuid> parse_uuid(std::string_view text);

/// The system (type 1). An empty string is no string.
struct SmbiosSystem {
    static constexpr std::size_t longest = 255; ///< bytes of a string
    std::string manufacturer{"inox"};
    std::string product{"virtual machine"};
    std::string version{};
    std::string serial{};
    std::optional<Uuid> uuid{};
    std::string sku{};
    std::string family{};
    bool operator==(const SmbiosSystem&) const = default;
};

/// Writes entry point and tables into layout::smbios, where kernels look for "_SM3_".
Result<void> write_smbios(const SmbiosSystem& system, const GuestMemory& memory);

} // namespace inox::boot
