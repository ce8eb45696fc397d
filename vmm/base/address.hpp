// SPDX-License-Identifier: Apache-2.0
// Address kinds as types: a guest-physical address cannot be passed where an I/O virtual one is meant.
#pragma once

#include <compare>
#include <cstdint>

namespace inox {

/// An address in the space named by `Tag`. Holds any 64-bit value.
template <class Tag> class Address {
public:
    constexpr Address() = default;
    explicit constexpr Address(std::uint64_t value) : value_{value} {}

    [[nodiscard]] constexpr std::uint64_t raw() const { return value_; }
    /// Wraps at 2^64; build a Range to check a whole access.
    [[nodiscard]] constexpr Address operator+(std::uint64_t bytes) const { return Address{value_ + bytes}; }
    constexpr auto operator<=>(const Address&) const = default;

private:
    std::uint64_t value_{};
};

using Gpa = Address<struct GpaTag>;       ///< guest-physical
using Iova = Address<struct IovaTag>;     ///< what a device puts on the bus
using IoPort = Address<struct IoPortTag>; ///< x86 port, 0..0xffff

} // namespace inox
