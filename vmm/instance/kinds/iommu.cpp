// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <numeric>

#include "devices/virtio/iommu.hpp"
#include "iommu/domains.hpp"
#include "vmm/instance/meter.hpp"

namespace inox {

template <>
void Meter<IommuConfig>::collect(const devices::virtio::Device& device, const Machine& machine, Collector& out) {
    const auto& iommu = static_cast<const devices::virtio::Iommu&>(device);
    const auto* domains = machine.iommu(); // not null: a machine with this device has it
    static constexpr std::array names{"private_requests", "attach_requests", "detach_requests",
                                      "map_requests",     "unmap_requests",  "probe_requests"};
    const auto counts = iommu.requests();
    for (std::size_t i = 0; i < names.size(); ++i)
        out.count(names[i], counts.types[i]);
    out.count("refused_requests",
              std::accumulate(counts.statuses.begin() + 1, counts.statuses.end(), std::uint64_t{0}));
    out.count("unanswered_requests", counts.unknown);
    out.count("faults", domains->faults().total());
    out.count("faults_told", iommu.faults_told());
    out.count("faults_untold", iommu.faults_dropped());
    out.gauge("mappings", domains->mapping_count());
    iommu::EndpointMemory::Counts sum;
    for (const auto& endpoint : domains->endpoints()) {
        sum.hits += endpoint.counts.hits;
        sum.misses += endpoint.counts.misses;
    }
    out.count("translation_hits", sum.hits);
    out.count("translation_misses", sum.misses);
}

} // namespace inox
