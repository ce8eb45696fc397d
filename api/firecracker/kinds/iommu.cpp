// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;

template <> void DeviceView<IommuConfig>::add(Json& whole, const IommuConfig& iommu, const Config& config) {
    whole["iommu"] = {{"bypass", boot_bypass(config)},
                      {"address_bits", iommu.limits.address_bits},
                      {"max_domains", iommu.limits.domains},
                      {"max_mappings", iommu.limits.mappings}};
}

} // namespace inox::api
