// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/iommu_world.hpp"

namespace inox::fakes {

IommuWorld::IommuWorld(const iommu::Limits& limits, bool bypass, bool assigned) : domains{ram.memory, limits, bypass} {
    if (assigned) {
        stays.push_back(*domains.add_endpoint(nvme, "nvme", nvme_host));
        stays.push_back(*domains.add_endpoint(nic, "nic", nic_host));
    }
    stays.push_back(*domains.add_endpoint(disk, "disk", *disk_memory));
    stays.push_back(*domains.add_endpoint(net, "net", *net_memory));
}

IommuWorld::Status IommuWorld::map(std::uint32_t domain, std::uint64_t first, std::uint64_t last,
                                   std::uint64_t physical, std::uint32_t flags) {
    return domains.map(DomainId{domain}, Iova{first * page}, Iova{last * page + page - 1}, Gpa{physical * page}, flags);
}

IommuWorld::Status IommuWorld::unmap(std::uint32_t domain, std::uint64_t first, std::uint64_t last) {
    return domains.unmap(DomainId{domain}, Iova{first * page}, Iova{last * page + page - 1});
}

IommuWorld::Status IommuWorld::attach(std::uint32_t domain, EndpointId endpoint, bool bypass) {
    return domains.attach(DomainId{domain}, endpoint, bypass);
}

iommu::EndpointReport IommuWorld::report(EndpointId id) const {
    for (auto& one : domains.endpoints())
        if (one.id == id)
            return one;
    throw std::out_of_range{"no such endpoint"};
}

std::size_t IommuWorld::mappings(std::uint32_t domain) const {
    const auto all = domains.mappings(DomainId{domain}, Iova{0}, SIZE_MAX);
    return all ? all->size() : SIZE_MAX;
}

std::optional<std::uint64_t> IommuWorld::reach(const TestRam& ram, const iommu::EndpointMemory& memory,
                                               std::uint64_t at, Access access) {
    const auto hold = memory.hold();
    std::vector<iovec> out;
    TranslationLimit limit{1, 1};
    if (memory.translate(*Range<Iova>::sized(Iova{at * page}, page), access, out, limit) != Translated::whole)
        return std::nullopt;
    const auto* host = static_cast<const std::byte*>(out.at(0).iov_base);
    return static_cast<std::uint64_t>(host - ram.memory.regions()[0].host.data()) / page;
}

std::optional<std::uint64_t> IommuWorld::reach(std::uint64_t at, Access access) const {
    return reach(ram, *disk_memory, at, access);
}

} // namespace inox::fakes
