// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

template <>
void DeviceView<ToyConfig>::add(nlohmann::ordered_json& whole, const ToyConfig& toy, const Config& /*config*/) {
    whole["toys"].push_back({{"id", toy.id}, {"colour", or_null(toy.colour)}});
}

} // namespace inox::api
