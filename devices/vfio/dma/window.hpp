// SPDX-License-Identifier: Apache-2.0
// Which I/O addresses a group may map: the kernel's list of usable ranges says where, sysfs says why not.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "iommu/dma_mapper.hpp"
#include "vmm/base/range.hpp"

namespace inox::devices::vfio {

struct ReservedLine;
using IovaRange = Range<Iova>;

struct Window {
    std::vector<IovaRange> apertures{};            ///< sorted, not overlapping
    std::vector<iommu::ReservedRegion> reserved{}; ///< sorted, not overlapping
    std::uint64_t page_sizes{};                    ///< bit n: 2^n bytes
};
/// `usable` empty: the kernel gave no list, and everything but the reserved lines may be mapped.
Window make_window(std::vector<IovaRange> usable, std::span<const ReservedLine> labels, std::uint64_t page_sizes);

} // namespace inox::devices::vfio
