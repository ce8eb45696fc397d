// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/machine_views.hpp"

#include <utility>

#include "iommu/domains.hpp"

namespace inox {
namespace {

IommuView::Endpoint endpoint_view(const iommu::EndpointReport& endpoint) {
    static constexpr const char* states[] = {"blocked", "bypassed", "attached", "lost"};
    static constexpr const char* kinds[] = {"reserved", "msi", "direct"};
    IommuView::Endpoint out{
        endpoint.id.raw(), endpoint.name, states[static_cast<std::size_t>(endpoint.state)], std::nullopt, {}};
    if (!endpoint.assigned)
        out.counts = endpoint.counts;
    if (endpoint.domain)
        out.domain = endpoint.domain->raw();
    for (const auto& region : endpoint.reserved)
        out.reserved.push_back(
            {region.range.start().raw(), region.range.last().raw(), kinds[static_cast<std::size_t>(region.kind)]});
    return out;
}

IommuView iommu_view(const iommu::Domains& domains) {
    IommuView out;
    out.driver = domains.has_driver();
    out.bypass = domains.bypass();
    for (const auto& endpoint : domains.endpoints())
        out.endpoints.push_back(endpoint_view(endpoint));
    for (const auto& domain : domains.domains()) {
        IommuView::Domain one{domain.id.raw(), domain.bypass, {}, domain.mappings};
        for (const auto endpoint : domain.endpoints)
            one.endpoints.push_back(endpoint.raw());
        out.domains.push_back(std::move(one));
    }
    out.fault_count = domains.faults().total();
    for (const auto& entry : domains.faults().latest())
        out.last_faults.push_back({entry.fault.endpoint.raw(), entry.fault.address.raw(),
                                   iommu::reason_text(entry.fault.reason), access_text(entry.fault.access)});
    return out;
}

std::optional<IommuMappings> mappings_of(const iommu::Domains& domains, std::uint32_t domain, std::uint64_t from,
                                         std::size_t limit) {
    // One more than was asked for tells whether there is a next page.
    auto found = domains.mappings(iommu::DomainId{domain}, Iova{from}, limit + 1);
    if (!found)
        return std::nullopt;
    IommuMappings out;
    for (const auto& report : domains.domains())
        if (report.id.raw() == domain)
            out.total = report.mappings;
    if (found->size() > limit) {
        out.next = found->back().range.start().raw();
        found->pop_back();
    }
    for (const auto& mapping : *found) {
        std::string access;
        for (const auto& [flag, letter] :
             {std::pair{iommu::wire::map_read, 'r'}, std::pair{iommu::wire::map_write, 'w'}})
            if ((mapping.flags & flag) != 0)
                access += letter;
        out.items.push_back({mapping.range.start().raw(), mapping.range.last().raw(), mapping.physical.raw(), access});
    }
    return out;
}

} // namespace

std::string access_text(Access access) { return access == Access::read ? "r" : access == Access::write ? "w" : "rw"; }

void show_iommu(MachineViews& views, const iommu::Domains* domains) {
    if (domains == nullptr)
        return;
    views.iommu = [domains] { return iommu_view(*domains); };
    views.mappings = [domains](std::uint32_t domain, std::uint64_t from, std::size_t limit) {
        return mappings_of(*domains, domain, from, limit);
    };
}

} // namespace inox
