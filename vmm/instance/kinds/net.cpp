// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/net.hpp"
#include "vmm/instance/meter.hpp"

namespace inox {

using devices::virtio::NetOptions;

template <>
void Meter<NetOptions>::collect(const devices::virtio::Device& device, const Machine& /*machine*/, Collector& out) {
    const auto& net = static_cast<const devices::virtio::Net&>(device);
    const auto& traffic = net.traffic();
    out.count("rx_packets_count", traffic.received);
    out.count("rx_bytes_count", traffic.received_bytes);
    out.count("rx_fails", traffic.received_dropped);
    out.count("tx_packets_count", traffic.sent);
    out.count("tx_bytes_count", traffic.sent_bytes);
    out.count("tx_fails", traffic.sent_dropped);
    out.count("tap_lost_count", traffic.losses);
    out.gauge("link_up", net.link_up() ? 1 : 0);
}

} // namespace inox
