// SPDX-License-Identifier: Apache-2.0
// A guest's access to a bus, as a fuzz target's input describes it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/base/bytes.hpp"
#include "vmm/bus/bus.hpp"

namespace inox::fuzz {

/// `how`: bit 7 a write, else the width less 1, modulo 8.
template <class A> void access(Bus<A>& bus, std::uint64_t address, std::uint8_t how, std::uint64_t value) {
    std::array<std::byte, 8> bytes{};
    store_le(bytes, value);
    const auto data = std::span{bytes}.first(how % 8 + 1U);
    if (how & 0x80)
        bus.write(A{address}, data);
    else
        bus.read(A{address}, data);
}

} // namespace inox::fuzz
