// SPDX-License-Identifier: Apache-2.0
// A guest with PASIDs: RAM, the service, and page tables in that RAM.
#pragma once

#include <memory>
#include <vector>

#include "iommu/pasid/pasid_service.hpp"
#include "tests/fakes/page_tables.hpp"

namespace inox::fakes {

struct PasidGuest {
    static constexpr std::uint64_t ram_size = 16 * MiB;
    static constexpr iommu::EndpointId endpoint{0x18};
    static constexpr iommu::EndpointId other_endpoint{0x20};

    explicit PasidGuest(std::uint32_t quota = 16) {
        service = *iommu::PasidService::create(core, memory, {.quota = quota});
        endpoints.push_back(*service->add_endpoint(endpoint, {.name = "one"}));
        endpoints.push_back(*service->add_endpoint(other_endpoint, {.name = "two"}));
        service->set_fault_sink([this](const iommu::PasidFault& fault) { faults.push_back(fault); });
    }

    /// Tables that take the place of earlier ones with the same index.
    PageTables tables(unsigned index, unsigned levels = 4) { return {memory, 0x100000 + index * 0x20000ULL, levels}; }
    static iommu::PageTable bound(const PageTables& tables) {
        return {.root = tables.root(), .five_levels = tables.levels() == 5};
    }
    iommu::GuestPasid alloc() {
        iommu::GuestPasid guest;
        return service->alloc(guest) == iommu::PasidStatus::ok ? guest : iommu::GuestPasid{};
    }
    /// 0 when it is unknown.
    [[nodiscard]] iommu::HostPasid host(iommu::GuestPasid guest) const {
        return core.find_by_spid(service->set(), guest).value_or(iommu::HostPasid{});
    }
    [[nodiscard]] unsigned references(iommu::HostPasid host) const {
        const auto info = core.info(host);
        return info ? info->total() : 0;
    }
    /// Nothing is allocated, referenced or in the table.
    [[nodiscard]] bool clean() const {
        const auto snapshot = service->snapshot();
        return snapshot.set.used == 0 && snapshot.pasids.empty() && service->table().size() == 0 &&
               snapshot.in_flight == 0;
    }

    GuestMemory memory = *GuestMemory::create(ram_size, HugePages::none);
    mutable iommu::IoasidCore core{};
    std::vector<iommu::PasidFault> faults{};
    std::unique_ptr<iommu::PasidService> service{};
    std::vector<Registration> endpoints{};
};

} // namespace inox::fakes
