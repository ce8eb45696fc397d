// SPDX-License-Identifier: Apache-2.0
// What a guest says of its memory, and of its free pages (virtio 1.2, 5.5.6.3). Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace inox::devices::virtio {

struct BalloonStatistics {
    /// In the order of their tags; the names are Firecracker's.
    static constexpr std::array<const char*, 16> names{
        "swap_in",          "swap_out",    "major_faults",        "minor_faults",     "free_memory", "total_memory",
        "available_memory", "disk_caches", "hugetlb_allocations", "hugetlb_failures", "oom_kill",    "alloc_stall",
        "async_scan",       "direct_scan", "async_reclaim",       "direct_reclaim"};
    /// Those the guest gave; memory in bytes.
    std::array<std::optional<std::uint64_t>, names.size()> values{};

    static constexpr std::size_t entry_size = 10; ///< tag and value
    /// Reads the entries of one report; tags that are unknown are skipped.
    static BalloonStatistics parse(std::span<const std::byte> report);
};

/// A run of free page hinting.
struct BalloonHinting {
    std::uint32_t host_command;                 ///< 0 stop, 1 done, or the number of a run
    std::optional<std::uint32_t> guest_command; ///< the last it sent
};

} // namespace inox::devices::virtio
