// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/pasid_guest.hpp"

namespace inox::fakes {

PasidGuest::PasidGuest(std::uint32_t quota) {
    service = *iommu::PasidService::create(core, memory, {.quota = quota});
    endpoints.push_back(*service->add_endpoint(endpoint, {.name = "one"}));
    endpoints.push_back(*service->add_endpoint(other_endpoint, {.name = "two"}));
    service->set_fault_sink([this](const iommu::PasidFault& fault) { faults.push_back(fault); });
}

iommu::PageTable PasidGuest::bound(const tests::PageTables& tables) {
    return {.root = tables.root(), .five_levels = tables.levels() == 5};
}

iommu::GuestPasid PasidGuest::alloc() {
    iommu::GuestPasid guest;
    return service->alloc(guest) == iommu::PasidStatus::ok ? guest : iommu::GuestPasid{};
}

iommu::HostPasid PasidGuest::host(iommu::GuestPasid guest) const {
    return core.find_by_spid(service->set(), guest).value_or(iommu::HostPasid{});
}

unsigned PasidGuest::references(iommu::HostPasid host) const {
    const auto info = core.info(host);
    return info ? info->total() : 0;
}

bool PasidGuest::clean() const {
    const auto snapshot = service->snapshot();
    return snapshot.set.used == 0 && snapshot.pasids.empty() && service->table().size() == 0 && snapshot.in_flight == 0;
}

} // namespace inox::fakes
