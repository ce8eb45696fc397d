// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/tap_check.hpp"

#include "devices/virtio/net/passt.hpp"
#include "devices/virtio/net/stream_port.hpp"
#include "devices/virtio/net/tap.hpp"

namespace inox {

Result<void> check_tap(const std::string& name, unsigned queue_pairs) {
    const auto tap = TRY(devices::virtio::Tap::create(name));
    return tap->check(queue_pairs);
}

Result<void> check_way(const devices::virtio::NetOptions& net) {
    if (net.user) {
        TRY(devices::virtio::Passt::find());
        return {};
    }
    if (!net.socket.empty()) {
        return devices::virtio::SocketPeer{net.socket}.check();
    }
    return net.tap.empty() ? Result<void>{} : check_tap(net.tap, net.queue_pairs);
}

} // namespace inox
