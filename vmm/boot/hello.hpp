// SPDX-License-Identifier: Apache-2.0
// The built-in guest: a flat 64-bit image made by hello/, entered at its first byte like a Linux kernel.
#pragma once

#include <cstddef>
#include <span>

#include "vmm/base/bytes.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot {

inline constexpr Gpa hello_start = layout::high_ram;         ///< hello/hello.ld links it there
inline constexpr std::uint64_t hello_memory_size = 32 * KiB; ///< image, data and stack

std::span<const std::byte> hello_image();

} // namespace inox::boot
