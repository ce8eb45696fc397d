// SPDX-License-Identifier: Apache-2.0
// The iSCSI CRC (RFC 3720, polynomial 0x1edc6f41).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace inox::devices::dsa {

/// Goes on from `crc`, in reflected form, without inversion: ~crc32c(~0, "123456789") is 0xe3069283.
[[nodiscard]] std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> bytes) noexcept;
/// The same with the bits of each byte taken from the highest down, and the register not reflected.
[[nodiscard]] std::uint32_t crc32c_unreflected(std::uint32_t crc, std::span<const std::byte> bytes) noexcept;
[[nodiscard]] std::uint32_t reverse_bits(std::uint32_t value) noexcept;

} // namespace inox::devices::dsa
