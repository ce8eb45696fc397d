// SPDX-License-Identifier: Apache-2.0
// IOMMU and PASIDs as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "vmm/machine/machine_views.hpp"

namespace api {

nlohmann::ordered_json iommu_json(const vmm::IommuView& report);
nlohmann::ordered_json mapping_json(const vmm::IommuMapping& mapping);
nlohmann::ordered_json pasids_json(const vmm::PasidView& report);

} // namespace api
