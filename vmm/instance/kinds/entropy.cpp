// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/entropy.hpp"
#include "vmm/instance/meter.hpp"

namespace inox {

using devices::virtio::EntropyOptions;

template <>
void Meter<EntropyOptions>::collect(const devices::virtio::Device& device, const Machine& /*machine*/, Collector& out) {
    const auto& entropy = static_cast<const devices::virtio::Entropy&>(device);
    out.count("entropy_bytes", entropy.bytes_given());
}

} // namespace inox
