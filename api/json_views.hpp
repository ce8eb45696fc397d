// SPDX-License-Identifier: Apache-2.0
// IOMMU and PASIDs as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "vmm/machine/machine_views.hpp"

namespace inox::api {

nlohmann::ordered_json iommu_json(const IommuView& report);
nlohmann::ordered_json mapping_json(const IommuMapping& mapping);
nlohmann::ordered_json pasids_json(const PasidView& report);

} // namespace inox::api
