// SPDX-License-Identifier: Apache-2.0
// Requests of any bytes and lengths: an answer has its tail or there is none, and hosts hold what the domains map.
//
//   input   requests, one after the other: length, room for the answer in units of 4, then the bytes
#include <algorithm>

#include "iommu/request.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "tests/fuzz/input.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using fakes::IommuWorld;
using fuzz::require;

void check(const IommuWorld& world) {
    std::size_t total = 0;
    for (const auto& domain : world.domains.domains()) {
        require(!domain.endpoints.empty());
        const auto mappings = *world.domains.mappings(domain.id, Iova{0}, SIZE_MAX);
        total += mappings.size();
        for (std::size_t i = 1; i < mappings.size(); ++i)
            require(mappings[i - 1].range.last() < mappings[i].range.start());
        if (!domain.bypass && std::ranges::find(domain.endpoints, IommuWorld::nvme) != domain.endpoints.end())
            for (const auto& [start, held] : world.nvme_host.held)
                require(std::ranges::any_of(mappings, [&](const auto& one) { return one.range == held.range; }));
    }
    require(total == world.domains.mapping_count());
    if (world.state(IommuWorld::nvme) == IommuWorld::State::blocked)
        require(world.nvme_host.held.empty());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    unsigned calls = 0; // calls of the host, up to the one that fails
    IommuWorld world{{.address_bits = 64, .mappings = 64}};
    if (size > 0 && data[0] != 0) // the host fails every so many calls
        world.nvme_host.fails = [&, every = data[0] + 1U] { return ++calls % every == 0; };
    iommu::Requests requests{world.domains, nullptr};
    iommu::Requests::Answer answer;
    auto rest = std::as_bytes(std::span{data, size}).subspan(std::min<std::size_t>(size, 1));
    while (rest.size() >= 2) {
        const auto length = std::min<std::size_t>(std::to_integer<std::size_t>(rest[0]), rest.size() - 2);
        const auto room = std::to_integer<std::uint64_t>(rest[1]) * 4;
        const auto out = requests.handle(rest.subspan(2, length), room, ~std::uint64_t{0}, answer);
        require(out.empty() || (out.size() >= 4 && out.size() <= room));
        if (out.size() >= 4)
            require(std::to_integer<unsigned>(out[out.size() - 4]) <= 8);
        rest = rest.subspan(2 + length);
    }
    check(world);
    return 0;
}
