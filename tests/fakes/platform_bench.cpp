// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/platform_bench.hpp"

namespace inox::fakes {

void PlatformBench::start(const inox::Config& config, const Parts& parts) {
    platform = Platform::create(config, open_devices(config, {loop, memory}).value(),
                                {.ports = ports,
                                 .mmio = mmio,
                                 .irqs = irqs,
                                 .doorbells = doorbells,
                                 .mappings = mappings,
                                 .memory = memory,
                                 .dma = dma,
                                 .iommu = parts.iommu,
                                 .loop = loop,
                                 .guest = guest,
                                 .events = owner,
                                 .serial = owner,
                                 .console = owner,
                                 .pasids = parts.pasids,
                                 .vfio_kernel = parts.vfio_kernel,
                                 .vfio_root = parts.vfio_root})
                   .value();
    platform->table().guest_starts();
}

} // namespace inox::fakes
