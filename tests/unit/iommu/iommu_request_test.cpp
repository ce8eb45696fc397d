// SPDX-License-Identifier: Apache-2.0
// Requests as bytes: framing, lengths, reserved fields, features, PROBE's answer (virtio 1.3, 5.13.6).
#include "iommu/request.hpp"

#include <cstring>

#include "tests/catch.hpp"
#include "tests/fakes/iommu_world.hpp"

namespace inox::iommu_request_test {

using namespace iommu;
using fakes::IommuWorld;
using W = IommuWorld;
using Bytes = std::vector<std::byte>;

namespace {

namespace f = wire::feature;
constexpr std::uint64_t all_features = f::input_range | f::domain_range | f::map_unmap | f::probe | f::bypass_config;

template <GuestPod T> Bytes bytes_of(T request, wire::Type type) {
    request.head.type = static_cast<std::uint8_t>(type);
    const auto span = std::as_bytes(std::span{&request, 1});
    return {span.begin(), span.end()};
}
Bytes attach(std::uint32_t domain, EndpointId endpoint, std::uint32_t flags = 0, std::uint32_t reserved = 0) {
    return bytes_of(wire::Attach{{}, domain, endpoint.raw(), flags, reserved}, wire::Type::attach);
}
Bytes detach(std::uint32_t domain, EndpointId endpoint, std::uint64_t reserved = 0) {
    return bytes_of(wire::Detach{{}, domain, endpoint.raw(), reserved}, wire::Type::detach);
}
Bytes map(std::uint32_t domain, std::uint64_t start, std::uint64_t last, std::uint64_t to, std::uint32_t flags) {
    return bytes_of(wire::Map{{}, domain, start, last, to, flags}, wire::Type::map);
}
Bytes unmap(std::uint32_t domain, std::uint64_t start, std::uint64_t last, std::uint32_t reserved = 0) {
    return bytes_of(wire::Unmap{{}, domain, start, last, reserved}, wire::Type::unmap);
}
Bytes probe(EndpointId endpoint) { return bytes_of(wire::Probe{{}, endpoint.raw(), {}}, wire::Type::probe); }

struct Guest {
    IommuWorld world{};
    Requests requests{world.domains, nullptr};
    Requests::Answer answer{};

    std::span<const std::byte> send(const Bytes& request, std::uint64_t writable = 4,
                                    std::uint64_t features = all_features) {
        answer.fill(std::byte{0xee});
        return requests.handle(request, writable, features, answer);
    }
    /// The status in the tail of a complete answer.
    Status status(const Bytes& request, std::uint64_t features = all_features) {
        const std::uint64_t size = !request.empty() && request[0] == std::byte{5} ? wire::probe_size + 4 : 4;
        const auto out = send(request, size, features);
        REQUIRE(out.size() == size);
        CHECK(std::ranges::all_of(out.last(3), [](std::byte b) { return b == std::byte{0}; }));
        return static_cast<Status>(out[size - 4]);
    }
};

} // namespace

TEST_CASE("a guest's first steps work as bytes") {
    Guest guest;
    CHECK(guest.status(attach(1, W::nvme)) == Status::ok);
    CHECK(guest.status(map(1, 0x1000, 0x2fff, 0x10000, 3)) == Status::ok);
    CHECK(guest.world.nvme_host.held.at(0x1000).range.size() == 0x2000);
    CHECK(guest.world.nvme_host.held.at(0x1000).host == guest.world.ram.memory.regions()[0].host.data() + 0x10000);
    CHECK(guest.status(unmap(1, 0x1000, 0x2fff)) == Status::ok);
    CHECK(guest.world.nvme_host.held.empty());
    CHECK(guest.status(detach(1, W::nvme)) == Status::ok);
    const auto counts = guest.requests.counts();
    CHECK(counts.types == std::array<std::uint64_t, 6>{0, 1, 1, 1, 1, 0});
    CHECK(counts.statuses[0] == 4);
}

TEST_CASE("a request of the wrong length is invalid") {
    const auto good = GENERATE(values<Bytes>(
        {attach(1, W::nvme), detach(1, W::nvme), map(1, 0x1000, 0x1fff, 0, 3), unmap(1, 0, 0xfff), probe(W::nvme)}));
    Guest guest;
    REQUIRE(guest.status(attach(1, W::disk)) == Status::ok);
    for (std::size_t size = 1; size <= good.size() + 300; ++size) {
        Bytes request = good;
        request.resize(size);
        if (size != good.size())
            REQUIRE(guest.status(request) == Status::invalid);
    }
    CHECK(guest.world.domains.domains().size() == 1);
    CHECK(guest.world.mappings(1) == 0);
}

TEST_CASE("nothing is written when the type is unknown, the feature was not accepted, or a status has no room") {
    Guest guest;
    REQUIRE(guest.status(attach(1, W::nvme)) == Status::ok);
    for (const unsigned type : {0U, 6U, 7U, 8U, 0x7fU, 0x80U, 0x81U, 0xffU}) {
        Bytes request(36);
        request[0] = static_cast<std::byte>(type);
        CHECK(guest.send(request, 600).empty());
        CHECK(guest.send(request, 600, ~std::uint64_t{0}).empty());
    }
    CHECK(guest.send({}, 600).empty());
    CHECK(guest.send(probe(W::nvme), 516, all_features & ~f::probe).empty());
    CHECK(guest.send(map(1, 0x1000, 0x1fff, 0, 3), 4, all_features & ~f::map_unmap).empty());
    CHECK(guest.send(unmap(1, 0x1000, 0x1fff), 4, all_features & ~f::map_unmap).empty());
    for (std::uint64_t room = 0; room < 4; ++room)
        CHECK(guest.send(map(1, 0x1000, 0x1fff, 0, 3), room).empty());
    CHECK(guest.world.mappings(1) == 0);
    CHECK(guest.requests.counts().unknown == 24);
}

TEST_CASE("the status stands first in a larger buffer, and only it is written") {
    Guest guest;
    const auto out = guest.send(attach(1, W::nvme), 100);
    REQUIRE(out.size() == 4);
    CHECK(out[0] == std::byte{0});
}

TEST_CASE("reserved fields and flags: what must be zero is looked at, what is ignored is not") {
    Guest guest;
    CHECK(guest.status(attach(1, W::nvme, 0, 1)) == Status::invalid);
    CHECK(guest.status(attach(1, W::nvme, 2)) == Status::invalid);
    CHECK(guest.status(attach(1, W::nvme, 1), all_features & ~f::bypass_config) == Status::invalid);
    CHECK(guest.status(attach(2, W::nvme, 1)) == Status::ok);
    CHECK(guest.status(detach(2, W::nvme, ~std::uint64_t{0})) == Status::ok);
    CHECK(guest.status(attach(1, W::nvme)) == Status::ok);
    CHECK(guest.status(map(1, 0x1000, 0x1fff, 0, 8)) == Status::invalid);
    CHECK(guest.status(map(1, 0x1000, 0x1fff, 0, 5)) == Status::invalid); // MMIO is not offered
    CHECK(guest.status(unmap(1, 0x1000, 0x1fff, 1)) == Status::invalid);
    // 5.13.6.1: reserved bytes of the head are ignored.
    Bytes request = map(1, 0x1000, 0x1fff, 0, 3);
    request[1] = request[2] = request[3] = std::byte{0xff};
    CHECK(guest.status(request) == Status::ok);
}

TEST_CASE("PROBE answers with properties, then zeros, then the status") {
    Guest guest;
    const auto out = guest.send(probe(W::disk), wire::probe_size + 4);
    REQUIRE(out.size() == wire::probe_size + 4);
    wire::ReservedMemory property;
    std::memcpy(&property, out.data(), sizeof property);
    CHECK((property.type == 1 && property.length == 20 && property.subtype == 1));
    CHECK((property.start == 0xfee00000 && property.last == 0xfeefffff));
    CHECK(std::ranges::all_of(out.subspan(sizeof property), [](std::byte b) { return b == std::byte{0}; }));
}

TEST_CASE("PROBE of a stranger, or with little room, tells no properties") {
    Guest guest;
    const auto stranger = guest.send(probe(EndpointId{0x777}), wire::probe_size + 4);
    REQUIRE(stranger.size() == wire::probe_size + 4);
    CHECK(stranger[wire::probe_size] == static_cast<std::byte>(Status::no_entry));
    CHECK(std::ranges::all_of(stranger.first(wire::probe_size), [](std::byte b) { return b == std::byte{0}; }));
    for (const std::uint64_t room : {4U, 5U, 100U, wire::probe_size + 3}) {
        const auto out = guest.send(probe(W::disk), room);
        REQUIRE(out.size() == room);
        CHECK(out[room - 4] == static_cast<std::byte>(Status::invalid));
        CHECK(std::ranges::all_of(out.first(room - 4), [](std::byte b) { return b == std::byte{0}; }));
    }
    const auto large = guest.send(probe(W::disk), 10000);
    REQUIRE(large.size() == wire::probe_size + 4);
    CHECK(large[wire::probe_size] == std::byte{0});
}

TEST_CASE("PROBE holds as many regions as an endpoint can have") {
    std::vector<ReservedRegion> regions(max_reserved_regions, {*Range<Iova>::sized(Iova{4096}, 4096)});
    Bytes out(wire::probe_size);
    CHECK(encode_properties(regions, out));
    regions.push_back(regions[0]);
    CHECK_FALSE(encode_properties(regions, out));
}

TEST_CASE("a private request reaches its extension, whole, and only when the driver accepted it") {
    struct Echo final : RequestExtension {
        std::optional<std::size_t> answer_size(std::uint8_t type) const noexcept override {
            return type == 0x80   ? std::optional<std::size_t>{8}
                   : type == 0x81 ? std::optional{std::size_t{100000}}
                                  : std::nullopt;
        }
        Status execute(std::uint8_t type, std::span<const std::byte> request,
                       std::span<std::byte> answer) noexcept override {
            CHECK(type == 0x80);
            seen.assign(request.begin(), request.end());
            answer[7] = std::byte{7};
            return Status::range;
        }
        void reset() noexcept override { ++resets; }
        Bytes seen{};
        unsigned resets{0};
    } echo;
    IommuWorld world;
    Requests requests{world.domains, &echo};
    Requests::Answer answer;
    Bytes request(200, std::byte{0x55});
    request[0] = std::byte{0x80};
    CHECK(requests.handle(request, 100, all_features, answer).empty());
    const auto out = requests.handle(request, 100, all_features | f::private_requests, answer);
    REQUIRE(out.size() == 12);
    CHECK((out[7] == std::byte{7} && out[8] == static_cast<std::byte>(Status::range)));
    CHECK(echo.seen == request);
    request.resize(257);
    CHECK(requests.handle(request, 100, all_features | f::private_requests, answer)[8] ==
          static_cast<std::byte>(Status::invalid));
    request.resize(3);
    CHECK(requests.handle(request, 100, all_features | f::private_requests, answer)[8] ==
          static_cast<std::byte>(Status::invalid));
    request[0] = std::byte{0x81};
    CHECK(requests.handle(request, ~0U, all_features | f::private_requests, answer).empty());
    CHECK(requests.counts().types[0] == 3);
    requests.reset();
    CHECK(echo.resets == 1);
}

} // namespace inox::iommu_request_test
