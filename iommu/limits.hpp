// SPDX-License-Identifier: Apache-2.0
// How much of an IOMMU a guest may use.
#pragma once

#include <cstddef>

#include "iommu/ids.hpp"

namespace inox::iommu {

/// What a guest may ask for; beyond it the answer is no_memory, or range for addresses and domain numbers.
struct Limits {
    unsigned address_bits{48}; ///< 32 to 64: addresses are 0 to 2^bits - 1
    DomainId last_domain{0xffff};
    std::size_t domains{4096};
    std::size_t mappings{std::size_t{1} << 20}; ///< of all domains together
    bool operator==(const Limits&) const = default;
};

} // namespace inox::iommu
