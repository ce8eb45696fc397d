// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;

template <> void DeviceView<DsaConfig>::add(Json& whole, const DsaConfig& dsa, const Config& /*config*/) {
    whole["dsa"] = {{"queues", dsa.shape.queues},
                    {"entries", dsa.shape.entries},
                    {"engines", dsa.shape.engines},
                    {"forward", or_null(dsa.forward)}};
}

} // namespace inox::api
