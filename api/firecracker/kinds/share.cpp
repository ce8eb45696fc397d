// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;
using devices::virtio::FsOptions;

template <> void DeviceView<FsOptions>::add(Json& whole, const FsOptions& share, const Config& /*config*/) {
    if (share.path.empty())
        whole["shares"].push_back({{"tag", share.tag}, {"socket", share.socket}});
    else
        whole["shares"].push_back({{"tag", share.tag}, {"path", share.path}, {"read_only", share.read_only}});
}

} // namespace inox::api
