// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/meter.hpp"

namespace inox {

using devices::virtio::FsOptions;

template <> void Meter<FsOptions>::collect(const devices::virtio::Device& /*device*/, const Machine& /*machine*/,
                                           Collector& /*out*/) {}

} // namespace inox
