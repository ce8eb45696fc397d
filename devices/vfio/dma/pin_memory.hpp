// SPDX-License-Identifier: Apache-2.0
// What is to be known of memory before it is pinned.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "vmm/base/error.hpp"

namespace inox::devices::vfio {

/// Smaller mappings are a guest's own, behind its IOMMU: they come and go too often for work on them to pay.
inline constexpr std::uint64_t least_gathered = std::uint64_t{32} << 20;

/// Pinning takes every byte from the host, and a host without memory kills processes instead of failing the call:
/// memory_unavailable when it has less left than these still lack. `root` stands before /proc.
Result<void> check_available(const std::string& root, std::span<const std::span<std::byte>> memory);

} // namespace inox::devices::vfio
