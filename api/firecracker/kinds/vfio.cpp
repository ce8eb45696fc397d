// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;

template <> void DeviceView<VfioConfig>::add(Json& whole, const VfioConfig& vfio, const Config& /*config*/) {
    whole["device-passthrough"].push_back({{"id", vfio.open.id}, {"sbdf", vfio.open.host}});
}

} // namespace inox::api
