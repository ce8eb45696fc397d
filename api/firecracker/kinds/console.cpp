// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;

template <> void DeviceView<ConsoleConfig>::add(Json& whole, const ConsoleConfig& console, const Config& /*config*/) {
    whole["console"] = {{"path", or_null(console.path)}};
}

} // namespace inox::api
