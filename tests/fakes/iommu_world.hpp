// SPDX-License-Identifier: Apache-2.0
// The address-space core with two assigned endpoints and two emulated ones, in units of pages.
#pragma once

#include "iommu/domains.hpp"
#include "iommu/reserved.hpp"
#include "tests/fakes/recording_mapper.hpp"
#include "tests/fakes/virtqueue_driver.hpp"

namespace inox::fakes {

struct IommuWorld {
    using DomainId = iommu::DomainId;
    using EndpointId = iommu::EndpointId;
    using Status = iommu::Status;
    static constexpr std::uint64_t page = page_size;
    static constexpr std::uint32_t read = iommu::wire::map_read;
    static constexpr std::uint32_t write = iommu::wire::map_write;
    static constexpr std::uint32_t mmio = iommu::wire::map_mmio;
    static constexpr EndpointId nvme{0x10};
    static constexpr EndpointId nic{0x18};
    static constexpr EndpointId disk{0x20};
    static constexpr EndpointId net{0x28};

    explicit IommuWorld(const iommu::Limits& limits = {}, bool bypass = false, bool assigned = true);

    /// Pages first..last to physical pages from `physical`.
    Status map(std::uint32_t domain, std::uint64_t first, std::uint64_t last, std::uint64_t physical = 16,
               std::uint32_t flags = read | write);
    Status unmap(std::uint32_t domain, std::uint64_t first, std::uint64_t last);
    Status attach(std::uint32_t domain, EndpointId endpoint, bool bypass = false);
    Status detach(std::uint32_t domain, EndpointId endpoint) { return domains.detach(DomainId{domain}, endpoint); }

    [[nodiscard]] iommu::EndpointReport report(EndpointId id) const;
    using State = iommu::EndpointReport::State;
    [[nodiscard]] State state(EndpointId id) const { return report(id).state; }
    [[nodiscard]] std::size_t mappings(std::uint32_t domain) const;
    /// Whether an emulated endpoint reaches the page, and as which physical one.
    static std::optional<std::uint64_t> reach(const TestRam& ram, const iommu::EndpointMemory& memory, std::uint64_t at,
                                              Access access = Access::read);
    [[nodiscard]] std::optional<std::uint64_t> reach(std::uint64_t at, Access access = Access::read) const;

    TestRam ram{4 * MiB};
    RecordingMapper nvme_host{};
    RecordingMapper nic_host{};
    iommu::Domains domains;
    std::unique_ptr<iommu::EndpointMemory> disk_memory{domains.make_memory()};
    std::unique_ptr<iommu::EndpointMemory> net_memory{domains.make_memory()};
    std::vector<Registration> stays{}; // first to go
};

} // namespace inox::fakes
