// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include "devices/dsa/descriptor.hpp"

namespace inox::tests {

/// The other way round of Descriptor::field(): `at` is the offset in the descriptor.
template <std::unsigned_integral T>
void set_field(devices::dsa::Descriptor& descriptor, std::size_t at, std::type_identity_t<T> value) {
    store_le(std::span{descriptor.specific}.subspan(at - 40, sizeof(T)), value);
}

} // namespace inox::tests
