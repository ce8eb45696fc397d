// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;
using devices::virtio::VsockOptions;

template <> void DeviceView<VsockOptions>::add(Json& whole, const VsockOptions& vsock, const Config& /*config*/) {
    whole["vsock"] = {{"guest_cid", vsock.guest_cid}, {"uds_path", vsock.uds_path}};
}

} // namespace inox::api
