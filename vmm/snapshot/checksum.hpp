// SPDX-License-Identifier: Apache-2.0
// XXH64, which finds damage and no forgery: a 64-bit sum at about the speed of memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace inox::snapshot {

/// Bytes in, a sum out. One thread.
class Checksum {
public:
    void add(std::span<const std::byte> bytes);
    /// Of all so far; more may follow.
    [[nodiscard]] std::uint64_t value() const;

private:
    std::array<std::uint64_t, 4> lanes_{0x60ea27eeadc0b5d6, 0xc2b2ae3d27d4eb4f, 0, 0x61c8864e7a143579};
    std::array<std::byte, 32> rest_{};
    std::uint64_t size_{0};
};

[[nodiscard]] std::uint64_t checksum(std::span<const std::byte> bytes);

} // namespace inox::snapshot
