// SPDX-License-Identifier: Apache-2.0
// Requests of any bytes and lengths: an answer has its tail or there is none, and hosts hold what the domains map.
//
//   input   how often the host fails, features, then requests: length, room for the answer in units of 4, the bytes
#include <algorithm>
#include <memory>

#include "iommu/request.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "tests/fuzz/input.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using fakes::IommuWorld;
using fuzz::require;

/// Requests of our own, of a size that the input chooses.
class Extension final : public iommu::RequestExtension {
public:
    std::size_t size{};
    unsigned resets{};

private:
    [[nodiscard]] std::optional<std::size_t> answer_size(std::uint8_t type) const noexcept override {
        return type % 4 == 3 ? std::nullopt : std::optional{type % 4 == 2 ? SIZE_MAX : size};
    }
    iommu::Status execute(std::uint8_t type, std::span<const std::byte> request,
                          std::span<std::byte> answer) noexcept override {
        require(request.size() >= sizeof(iommu::wire::Head) && std::to_integer<std::uint8_t>(request[0]) == type &&
                answer.size() == size);
        return iommu::Status::ok;
    }
    void reset() noexcept override { ++resets; }
};

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
    const std::uint8_t chosen = size > 1 ? data[1] : 0;
    const std::uint64_t features = (chosen & 1) != 0 ? std::uint64_t{chosen} * 0x0101010101010101 : ~std::uint64_t{0};
    auto own = std::make_unique<Extension>();
    auto& extension = *own;
    extension.size = chosen;
    const std::unique_ptr<iommu::RequestExtension> owner = std::move(own);
    iommu::Requests requests{world.domains, (chosen & 2) != 0 ? owner.get() : nullptr};
    require(requests.extended() == ((chosen & 2) != 0) && !iommu::decode({}));
    iommu::Requests::Answer answer;
    auto rest = std::as_bytes(std::span{data, size}).subspan(std::min<std::size_t>(size, 2));
    std::uint64_t handled = 0;
    while (rest.size() >= 2) {
        const auto said = std::to_integer<std::size_t>(rest[0]);
        const auto length = std::min(said == 255 ? iommu::Requests::max_request + 1 : said, rest.size() - 2);
        const auto room = std::to_integer<std::uint64_t>(rest[1]) * 4;
        const auto out = requests.handle(rest.subspan(2, length), room, features, answer);
        ++handled;
        if (const auto request = iommu::decode(rest.subspan(2, length)); request && (chosen & 4) != 0)
            (void)iommu::execute(*request, world.domains, features);
        require(out.empty() || (out.size() >= 4 && out.size() <= room));
        if (out.size() >= 4)
            require(std::to_integer<unsigned>(out[out.size() - 4]) <= 8);
        rest = rest.subspan(2 + length);
    }
    check(world);
    const auto counts = requests.counts();
    std::uint64_t answered = counts.unknown;
    for (const auto count : counts.statuses)
        answered += count;
    require(answered == handled);
    requests.reset();
    require(world.domains.mapping_count() == 0 && extension.resets == ((chosen & 2) != 0 ? 1U : 0U));
    return 0;
}
