// SPDX-License-Identifier: Apache-2.0
// Huge pages for memory that was made of small ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "vmm/base/bytes.hpp"

namespace inox {

inline constexpr std::uint64_t huge_page_size = 2 * MiB;

/// Makes all of this memory resident, each aligned 2 MiB of it as one huge page where the host can (Linux 6.1 and
/// newer, whatever the host's policy says). Contents stay; others may use the memory meanwhile, and what they have
/// pinned stays in small pages. `progress` is told the bytes done, now and then. Returns the bytes that were put into
/// huge pages or are in some already: a whole number of huge pages.
std::uint64_t gather_huge_pages(std::span<std::byte> memory, const std::function<void(std::uint64_t)>& progress = {});

} // namespace inox
