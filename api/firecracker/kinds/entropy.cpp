// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;
using devices::virtio::EntropyOptions;

template <> void DeviceView<EntropyOptions>::add(Json& whole, const EntropyOptions& entropy, const Config& /*config*/) {
    whole["entropy"] = {{"rate_limiter", limits_json(entropy.limits)}};
}

} // namespace inox::api
