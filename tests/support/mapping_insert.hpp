// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "iommu/mapping_table.hpp"

namespace inox::tests {

/// As Domains does it; false when the range is taken.
inline bool insert(iommu::MappingTable& table, const iommu::Mapping& mapping) {
    const auto place = table.free_place(mapping.range);
    if (place)
        table.insert(*place, mapping);
    return place.has_value();
}

} // namespace inox::tests
