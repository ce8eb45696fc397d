// SPDX-License-Identifier: Apache-2.0
// A driver's view of a device's registers.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "vmm/base/bytes.hpp"
#include "vmm/bus/bus.hpp"

namespace inox::tests {

template <std::unsigned_integral T = std::uint8_t> T in(BusDevice& device, std::uint64_t offset) {
    std::array<std::byte, sizeof(T)> bytes{};
    device.read(offset, bytes);
    return load_le<T>(bytes);
}

template <std::unsigned_integral T = std::uint8_t>
void out(BusDevice& device, std::uint64_t offset, std::type_identity_t<T> value) {
    std::array<std::byte, sizeof(T)> bytes{};
    store_le(bytes, value);
    device.write(offset, bytes);
}

template <std::unsigned_integral T, class A> T in(Bus<A>& bus, std::uint64_t address) {
    std::array<std::byte, sizeof(T)> bytes{};
    bus.read(A{address}, bytes);
    return load_le<T>(bytes);
}

template <std::unsigned_integral T, class A>
void out(Bus<A>& bus, std::uint64_t address, std::type_identity_t<T> value) {
    std::array<std::byte, sizeof(T)> bytes{};
    store_le(bytes, value);
    bus.write(A{address}, bytes);
}

} // namespace inox::tests
