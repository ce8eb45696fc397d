// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock/vsock.hpp"
#include "vmm/instance/meter.hpp"

namespace inox {

using devices::virtio::VsockOptions;

template <>
void Meter<VsockOptions>::collect(const devices::virtio::Device& device, const Machine& /*machine*/, Collector& out) {
    const auto& vsock = static_cast<const devices::virtio::Vsock&>(device);
    const auto& traffic = vsock.traffic();
    out.count("rx_bytes_count", traffic.to_guest_bytes);
    out.count("tx_bytes_count", traffic.to_host_bytes);
    out.count("conns_added", traffic.opened);
    out.count("conns_refused", traffic.refused);
    out.count("conns_refused_limit", traffic.refused_limit);
    out.gauge("conns_limit", vsock.limit());
    out.gauge("conns_open", traffic.open);
}

} // namespace inox
