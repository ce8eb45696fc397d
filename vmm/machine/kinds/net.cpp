// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/net.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/device_table.hpp"

namespace inox {

using devices::virtio::NetOptions;

template <> Result<OpenedDevice> Maker<NetOptions>::open(const NetOptions& net, const OpeningContext& context) {
    auto filter = context.net_filters ? TRY(context.net_filters(net.id)) : nullptr;
    return OpenedDevice{
        TRY(devices::virtio::Net::create(net, context.loop, std::move(filter), std::chrono::seconds{3}))};
}

template <>
Result<NewDevice> Maker<NetOptions>::make(const NetOptions& /*net*/, OpenedDevice opened, PlatformParts& /*parts*/) {
    return NewDevice{.device = std::move(opened.virtio)};
}

/// A tap for each pair of queues, and the control queue; or a socket and what passt says.
template <> std::size_t Maker<NetOptions>::descriptors(const NetOptions& net) {
    return virtio_descriptors(2 * std::size_t{net.queue_pairs} + 1) + net.queue_pairs + (net.user ? 1 : 0);
}

} // namespace inox
