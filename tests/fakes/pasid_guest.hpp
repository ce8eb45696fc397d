// SPDX-License-Identifier: Apache-2.0
// A guest with PASIDs: RAM, the service, and page tables in that RAM.
#pragma once

#include <memory>
#include <vector>

#include "iommu/pasid/pasid_service.hpp"
#include "tests/support/page_tables.hpp"

namespace inox::fakes {

struct PasidGuest {
    static constexpr std::uint64_t ram_size = 16 * MiB;
    static constexpr iommu::EndpointId endpoint{0x18};
    static constexpr iommu::EndpointId other_endpoint{0x20};

    explicit PasidGuest(std::uint32_t quota = 16);

    /// Tables that take the place of earlier ones with the same index.
    tests::PageTables tables(unsigned index, unsigned levels = 4) {
        return {memory, 0x100000 + index * 0x20000ULL, levels};
    }
    static iommu::PageTable bound(const tests::PageTables& tables);
    iommu::GuestPasid alloc();
    /// 0 when it is unknown.
    [[nodiscard]] iommu::HostPasid host(iommu::GuestPasid guest) const;
    [[nodiscard]] unsigned references(iommu::HostPasid host) const;
    /// Nothing is allocated, referenced or in the table.
    [[nodiscard]] bool clean() const;

    GuestMemory memory = *GuestMemory::create(ram_size, HugePages::none);
    mutable iommu::IoasidCore core{};
    std::vector<iommu::PasidFault> faults{};
    std::unique_ptr<iommu::PasidService> service{};
    std::vector<Registration> endpoints{};
};

} // namespace inox::fakes
