// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/balloon.hpp"
#include "vmm/instance/meter.hpp"

namespace inox {

using devices::virtio::BalloonOptions;

template <>
void Meter<BalloonOptions>::collect(const devices::virtio::Device& device, const Machine& /*machine*/, Collector& out) {
    const auto& balloon = static_cast<const devices::virtio::Balloon&>(device);
    out.gauge("target_bytes", balloon.target());
    out.gauge("actual_bytes", balloon.actual());
    out.count("released_bytes", balloon.released());
}

} // namespace inox
