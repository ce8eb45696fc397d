// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;
using devices::virtio::NetOptions;

template <> void DeviceView<NetOptions>::add(Json& whole, const NetOptions& net, const Config& /*config*/) {
    Json json{{"iface_id", net.id},
              {"host_dev_name", net.tap},
              {"guest_mac", or_null(net.mac, [](const auto& mac) { return mac.text(); })},
              {"mtu", or_null(net.mtu, [](unsigned mtu) { return mtu; })},
              {"rx_rate_limiter", limits_json(net.receive_limits)},
              {"tx_rate_limiter", limits_json(net.send_limits)}};
    if (net.tap.empty())
        json.erase("host_dev_name");
    if (net.user)
        json["user"] = true;
    if (!net.socket.empty())
        json["socket"] = net.socket;
    if (net.host)
        json["host"] = true;
    if (!net.dns.empty())
        json["dns"] = net.dns;
    for (const auto& forward : net.forwards)
        json["forward"].push_back(forward.text());
    if (net.queue_pairs != 1)
        json["queue_pairs"] = net.queue_pairs;
    whole["network-interfaces"].push_back(std::move(json));
}

} // namespace inox::api
