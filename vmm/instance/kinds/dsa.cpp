// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/meter.hpp"

namespace inox {

template <> void Meter<DsaConfig>::collect(const devices::virtio::Device& /*device*/, const Machine& /*machine*/,
                                           Collector& /*out*/) {}

} // namespace inox
