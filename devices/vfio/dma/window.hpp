// SPDX-License-Identifier: Apache-2.0
// Which I/O addresses a group may map: the kernel's list of usable ranges says where, sysfs says why not.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "iommu/dma_mapper.hpp"
#include "vmm/base/range.hpp"

namespace inox::devices::vfio {

using IovaRange = Range<Iova>;

struct Window {
    std::vector<IovaRange> apertures{};            ///< sorted, not overlapping
    std::vector<iommu::ReservedRegion> reserved{}; ///< sorted, not overlapping
    std::uint64_t page_sizes{};                    ///< bit n: 2^n bytes
};

/// A line of /sys/kernel/iommu_groups/N/reserved_regions.
struct ReservedLine {
    IovaRange range;
    iommu::ReservedKind kind;
    bool relaxable{}; ///< firmware had it mapped 1:1, but the kernel lets go of that for assignment
};
/// Lines that cannot be read are skipped; unknown types count as reserved.
std::vector<ReservedLine> parse_reserved(std::string_view text);

/// `usable` empty: the kernel gave no list, and everything but the reserved lines may be mapped.
Window make_window(std::vector<IovaRange> usable, std::span<const ReservedLine> labels, std::uint64_t page_sizes);

} // namespace inox::devices::vfio
