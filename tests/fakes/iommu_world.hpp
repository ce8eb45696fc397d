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

    explicit IommuWorld(const iommu::Limits& limits = {}, bool bypass = false, bool assigned = true)
        : domains{ram.memory, limits, bypass} {
        if (assigned) {
            stays.push_back(*domains.add_endpoint(nvme, "nvme", nvme_host));
            stays.push_back(*domains.add_endpoint(nic, "nic", nic_host));
        }
        stays.push_back(*domains.add_endpoint(disk, "disk", *disk_memory));
        stays.push_back(*domains.add_endpoint(net, "net", *net_memory));
    }

    /// Pages first..last to physical pages from `physical`.
    Status map(std::uint32_t domain, std::uint64_t first, std::uint64_t last, std::uint64_t physical = 16,
               std::uint32_t flags = read | write) {
        return domains.map(DomainId{domain}, Iova{first * page}, Iova{last * page + page - 1}, Gpa{physical * page},
                           flags);
    }
    Status unmap(std::uint32_t domain, std::uint64_t first, std::uint64_t last) {
        return domains.unmap(DomainId{domain}, Iova{first * page}, Iova{last * page + page - 1});
    }
    Status attach(std::uint32_t domain, EndpointId endpoint, bool bypass = false) {
        return domains.attach(DomainId{domain}, endpoint, bypass);
    }
    Status detach(std::uint32_t domain, EndpointId endpoint) { return domains.detach(DomainId{domain}, endpoint); }

    [[nodiscard]] iommu::EndpointReport report(EndpointId id) const {
        for (auto& one : domains.endpoints())
            if (one.id == id)
                return one;
        throw std::out_of_range{"no such endpoint"};
    }
    using State = iommu::EndpointReport::State;
    [[nodiscard]] State state(EndpointId id) const { return report(id).state; }
    [[nodiscard]] std::size_t mappings(std::uint32_t domain) const {
        const auto all = domains.mappings(DomainId{domain}, Iova{0}, SIZE_MAX);
        return all ? all->size() : SIZE_MAX;
    }
    /// Whether an emulated endpoint reaches the page, and as which physical one.
    static std::optional<std::uint64_t> reach(const TestRam& ram, const iommu::EndpointMemory& memory, std::uint64_t at,
                                              Access access = Access::read) {
        const auto hold = memory.hold();
        std::vector<iovec> out;
        TranslationLimit limit{1, 1};
        if (memory.translate(*Range<Iova>::sized(Iova{at * page}, page), access, out, limit) != Translated::whole)
            return std::nullopt;
        const auto* host = static_cast<const std::byte*>(out.at(0).iov_base);
        return static_cast<std::uint64_t>(host - ram.memory.regions()[0].host.data()) / page;
    }
    [[nodiscard]] std::optional<std::uint64_t> reach(std::uint64_t at, Access access = Access::read) const {
        return reach(ram, *disk_memory, at, access);
    }

    TestRam ram{4 * MiB};
    RecordingMapper nvme_host{};
    RecordingMapper nic_host{};
    iommu::Domains domains;
    std::unique_ptr<iommu::EndpointMemory> disk_memory{domains.make_memory()};
    std::unique_ptr<iommu::EndpointMemory> net_memory{domains.make_memory()};
    std::vector<Registration> stays{}; // first to go
};

} // namespace inox::fakes
