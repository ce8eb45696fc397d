// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share: how they complain, and how they read their input.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "vmm/base/bytes.hpp"

namespace inox::fuzz {

inline void require(bool condition) {
    if (!condition)
        std::abort();
}

/// Takes values off the front; at the end of the input it gives zeros and short pieces.
class Input {
public:
    explicit Input(std::span<const std::byte> bytes) : bytes_{bytes} {}
    [[nodiscard]] bool empty() const { return bytes_.empty(); }
    template <std::unsigned_integral T> T take() { return load_le<T>(take(sizeof(T))); }
    std::uint64_t number(std::size_t size) { return load_le(take(size)); }
    std::span<const std::byte> take(std::size_t size) {
        const auto part = bytes_.first(std::min(bytes_.size(), size));
        bytes_ = bytes_.subspan(part.size());
        return part;
    }

private:
    std::span<const std::byte> bytes_;
};

} // namespace inox::fuzz
