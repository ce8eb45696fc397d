// SPDX-License-Identifier: Apache-2.0
// Which addresses the guest may not map for an endpoint.
#pragma once

#include <span>
#include <vector>

#include "iommu/dma_mapper.hpp"

namespace inox::iommu {

/// Where x86 turns writes into interrupts; nothing mapped there is ever reached.
inline constexpr auto msi_window = fixed_range<Iova>(0xfee00000, 0xfeefffff);
/// What fits the answer to PROBE.
inline constexpr std::size_t max_reserved_regions = 21;

/// The host's regions, the MSI window (Linux would invent a wrong one) and what the host's IOMMU cannot translate of
/// `input`. Direct regions become reserved, because the guest's interface has no such kind and the host keeps them
/// mapped. Sorted, not overlapping, at most max_reserved_regions: neighbours become one if there are more.
std::vector<ReservedRegion> guest_reserved(std::span<const ReservedRegion> host, std::span<const Range<Iova>> apertures,
                                           Range<Iova> input);

} // namespace inox::iommu
