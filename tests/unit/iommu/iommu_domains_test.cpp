// SPDX-License-Identifier: Apache-2.0
// The rules of virtio 1.3, 5.13.6.3 to 5.13.6.7, one test a rule: who is in which domain, and what PROBE answers.
// Mappings: iommu_domains_map_test.cpp.
#include "iommu/domains.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/iommu_world.hpp"

namespace inox::iommu_domains_test {

using fakes::IommuWorld;
using iommu::DomainId;
using iommu::EndpointId;
using iommu::Status;
using W = IommuWorld;
using IovaRange = Range<Iova>;

namespace {

constexpr std::uint64_t page = W::page;
constexpr EndpointId stranger{0x999};

} // namespace

// Attach and detach

TEST_CASE("attach refuses endpoints nobody knows and domains out of range") {
    IommuWorld world{{.last_domain = DomainId{7}}};
    CHECK(world.attach(1, stranger) == Status::no_entry);
    CHECK(world.attach(8, W::nvme) == Status::range);
    CHECK(world.attach(8, stranger) == Status::no_entry); // the endpoint is checked first
    CHECK(world.attach(7, W::nvme) == Status::ok);
    CHECK(world.domains.domains().size() == 1);
}

TEST_CASE("the first attach decides whether a domain is a bypass domain") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::disk, true) == Status::ok);
    CHECK(world.attach(1, W::net, false) == Status::invalid);
    REQUIRE(world.attach(2, W::net, false) == Status::ok);
    CHECK(world.attach(2, W::disk, true) == Status::invalid);
    CHECK(world.report(W::disk).domain == DomainId{1});
    CHECK(world.attach(1, W::net, true) == Status::ok);
}

TEST_CASE("attaching again to the same domain changes nothing") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.map(1, 0, 3) == Status::ok);
    const auto calls = world.nvme_host.maps + world.nvme_host.unmaps;
    CHECK(world.attach(1, W::nvme) == Status::ok);
    CHECK(world.nvme_host.maps + world.nvme_host.unmaps == calls);
    CHECK(world.domains.domains().at(0).endpoints.size() == 1);
}

TEST_CASE("attaching elsewhere detaches first, and the old domain goes with its last endpoint") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.map(1, 0, 3) == Status::ok);
    CHECK(world.attach(2, W::nvme) == Status::ok);
    CHECK(world.nvme_host.held.empty());
    CHECK(world.mappings(1) == SIZE_MAX);
    CHECK(world.domains.mapping_count() == 0);
}

TEST_CASE("all mappings of a domain apply to an endpoint that joins") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    REQUIRE(world.map(1, 0, 3, 16, W::read) == Status::ok);
    REQUIRE(world.map(1, 8, 8, 32, W::write) == Status::ok);
    REQUIRE(world.map(1, 9, 9, 33, 0) == Status::ok);
    CHECK(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.nvme_host.held.size() == 2);
    CHECK(world.nvme_host.held.at(0).access == Access::read);
    CHECK(world.nvme_host.held.at(8 * page).access == Access::write);
    CHECK(world.attach(1, W::net) == Status::ok);
    CHECK(W::reach(world.ram, *world.net_memory, 8, Access::write) == 32);
}

TEST_CASE("an endpoint whose replay fails is blocked, in no domain, and may try again") {
    IommuWorld world{{}, true};
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    for (std::uint64_t i = 0; i < 5; ++i)
        REQUIRE(world.map(1, i * 2, i * 2) == Status::ok);
    const auto [code, status] = GENERATE(
        table<Errc, Status>({{Errc::no_resource, Status::no_memory}, {Errc::host_error, Status::device_error}}));
    world.nvme_host.failure = code;
    bool once = true;
    world.nvme_host.fails = [&] { return world.nvme_host.held.size() == 3 && std::exchange(once, false); };
    CHECK(world.attach(1, W::nvme) == status);
    CHECK(world.nvme_host.held.empty());
    CHECK(world.state(W::nvme) == W::State::blocked);
    CHECK(world.mappings(1) == 5);
    world.nvme_host.fails = {};
    CHECK(world.attach(1, W::nvme) == Status::ok);
    CHECK(world.nvme_host.held.size() == 5);
}

TEST_CASE("a new domain whose only endpoint cannot be filled does not exist") {
    IommuWorld world;
    world.nvme_host.fails = [] { return true; };
    CHECK(world.attach(3, W::nvme, true) == Status::device_error);
    CHECK(world.domains.domains().empty());
}

TEST_CASE("an endpoint does not join a domain that maps what is reserved for it") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    REQUIRE(world.map(1, 0x100, 0x1ff, 16) == Status::ok);
    fakes::RecordingMapper picky;
    picky.reserved_regions = {{*IovaRange::closed(Iova{0x1ff000}, Iova{0x1fffff}), iommu::ReservedKind::direct}};
    const auto stay = *world.domains.add_endpoint(EndpointId{0x40}, "picky", picky);
    CHECK(world.attach(1, EndpointId{0x40}) == Status::unsupported);
    CHECK(world.attach(2, EndpointId{0x40}) == Status::ok);
}

TEST_CASE("detach refuses strangers, those who are elsewhere and those who are nowhere") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.attach(2, W::disk) == Status::ok);
    CHECK(world.detach(1, stranger) == Status::no_entry);
    CHECK(world.detach(2, W::nvme) == Status::invalid);
    CHECK(world.detach(9, W::nvme) == Status::invalid);
    CHECK(world.detach(1, W::net) == Status::invalid);
    CHECK(world.detach(1, W::nvme) == Status::ok);
    CHECK(world.detach(1, W::nvme) == Status::invalid);
}

TEST_CASE("a domain lives until its last endpoint leaves, and begins empty after that") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    REQUIRE(world.map(1, 0, 0) == Status::ok);
    CHECK(world.detach(1, W::nvme) == Status::ok);
    CHECK(world.nvme_host.held.empty());
    CHECK(world.mappings(1) == 1);
    CHECK(world.detach(1, W::disk) == Status::ok);
    CHECK(world.mappings(1) == SIZE_MAX);
    CHECK(world.map(1, 0, 0) == Status::no_entry);
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    CHECK(world.mappings(1) == 0);
    CHECK(world.nvme_host.held.empty());
}

TEST_CASE("in no domain an endpoint follows the bypass setting") {
    const bool bypass = GENERATE(false, true);
    IommuWorld world{{}, bypass};
    const auto expected = bypass ? W::State::bypassed : W::State::blocked;
    for (const bool again : {false, true}) {
        CAPTURE(again);
        CHECK(world.state(W::nvme) == expected);
        CHECK(world.state(W::disk) == expected);
        CHECK(world.nvme_host.held.size() == (bypass ? 1 : 0));
        CHECK(world.reach(7) == (bypass ? std::optional{7} : std::nullopt));
        REQUIRE(world.attach(1, W::nvme) == Status::ok);
        REQUIRE(world.attach(1, W::disk) == Status::ok);
        CHECK(world.nvme_host.held.empty());
        CHECK_FALSE(world.reach(7));
        REQUIRE(world.detach(1, W::nvme) == Status::ok);
        REQUIRE(world.detach(1, W::disk) == Status::ok);
    }
}

TEST_CASE("the bypass setting changes endpoints in no domain at once") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nic) == Status::ok);
    world.domains.set_bypass(true);
    CHECK(world.domains.bypass());
    REQUIRE(world.nvme_host.held.size() == 1);
    CHECK(world.nvme_host.held.at(0).range.size() == world.ram.memory.size());
    CHECK(world.reach(7) == 7);
    CHECK(world.nic_host.held.empty());
    world.domains.set_bypass(false);
    CHECK(world.nvme_host.held.empty());
    CHECK_FALSE(world.reach(7));
    CHECK(world.state(W::nic) == W::State::attached);
}

TEST_CASE("a bypass domain maps all RAM and takes no mappings") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme, true) == Status::ok);
    REQUIRE(world.attach(1, W::disk, true) == Status::ok);
    CHECK(world.nvme_host.held.at(0).range.size() == world.ram.memory.size());
    CHECK(world.reach(9) == 9);
    CHECK(world.map(1, 0, 0) == Status::invalid);
    CHECK(world.unmap(1, 0, 0) == Status::invalid);
    REQUIRE(world.detach(1, W::nvme) == Status::ok);
    CHECK(world.nvme_host.held.empty());
}

TEST_CASE("a reset detaches everybody and keeps the bypass setting") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.attach(2, W::disk) == Status::ok);
    REQUIRE(world.map(1, 0, 9) == Status::ok);
    const bool bypass = GENERATE(false, true);
    world.domains.set_bypass(bypass);
    world.domains.reset();
    CHECK(world.domains.domains().empty());
    CHECK(world.domains.mapping_count() == 0);
    CHECK(world.domains.bypass() == bypass);
    CHECK(world.state(W::nvme) == (bypass ? W::State::bypassed : W::State::blocked));
    CHECK(world.nvme_host.held.size() == (bypass ? 1 : 0));
}

// Probe and coming and going

TEST_CASE("probe gives the host's regions, the MSI window and what the host cannot translate") {
    using Kind = iommu::ReservedKind;
    IommuWorld world;
    fakes::RecordingMapper picky;
    picky.reserved_regions = {{*IovaRange::closed(Iova{0x100000}, Iova{0x1fffff}), Kind::direct},
                              {*IovaRange::closed(Iova{0xfee00000}, Iova{0xfeefffff}), Kind::msi}};
    picky.usable = {*IovaRange::closed(Iova{0}, Iova{0xfffff}), *IovaRange::closed(Iova{0x200000}, Iova{0xfedfffff}),
                    *IovaRange::closed(Iova{0xfef00000}, Iova{0x7fffffffff})};
    const auto stay = *world.domains.add_endpoint(EndpointId{0x40}, "picky", picky);
    std::vector<iommu::ReservedRegion> regions;
    CHECK(world.domains.probe(stranger, regions) == Status::no_entry);
    REQUIRE(world.domains.probe(EndpointId{0x40}, regions) == Status::ok);
    CHECK(regions == std::vector<iommu::ReservedRegion>{
                         {*IovaRange::closed(Iova{0x100000}, Iova{0x1fffff}), Kind::reserved},
                         {iommu::msi_window, Kind::msi},
                         {*IovaRange::closed(Iova{0x8000000000}, world.domains.input_range().last()), Kind::reserved}});
    REQUIRE(world.domains.probe(W::disk, regions) == Status::ok);
    CHECK(regions == std::vector<iommu::ReservedRegion>{{iommu::msi_window, Kind::msi}});
}

TEST_CASE("a long list of reserved regions is shortened, never left out") {
    using Kind = iommu::ReservedKind;
    std::vector<iommu::ReservedRegion> many;
    for (std::uint64_t i = 0; i < 100; ++i)
        many.push_back({*IovaRange::closed(Iova{i << 20}, Iova{(i << 20) + (i << 12) + 0xfff}), Kind::reserved});
    const auto input = *IovaRange::closed(Iova{0}, Iova{(std::uint64_t{1} << 48) - 1});
    const auto list = iommu::guest_reserved(many, std::span{&input, 1}, input);
    CHECK(list.size() <= iommu::max_reserved_regions);
    for (std::size_t i = 1; i < list.size(); ++i)
        CHECK(list[i - 1].range.last() < list[i].range.start());
    for (const auto& region : many)
        CHECK(std::ranges::any_of(list, [&](const auto& one) { return one.range.contains(region.range); }));
}

TEST_CASE("an endpoint comes once, and goes with all it has") {
    IommuWorld world;
    fakes::RecordingMapper host;
    CHECK(world.domains.add_endpoint(W::nvme, "twin", host).error().code == Errc::already_exists);
    CHECK(world.domains.add_endpoint(EndpointId{0x48}, "twin", world.nvme_host).error().code == Errc::unsupported);
    auto stay = *world.domains.add_endpoint(EndpointId{0x40}, "guest", host);
    REQUIRE(world.attach(1, EndpointId{0x40}) == Status::ok);
    REQUIRE(world.map(1, 0, 0) == Status::ok);
    stay.reset();
    CHECK(host.held.empty());
    CHECK(world.domains.domains().empty());
    CHECK(world.attach(1, EndpointId{0x40}) == Status::no_entry);
}

TEST_CASE("an endpoint that cannot be filled under bypass does not come") {
    IommuWorld world{{}, true};
    fakes::RecordingMapper host;
    host.fails = [&] { return host.held.empty(); };
    CHECK_FALSE(world.domains.add_endpoint(EndpointId{0x40}, "full", host));
    CHECK(world.attach(1, EndpointId{0x40}) == Status::no_entry);
}

TEST_CASE("an IOMMU of larger pages is refused") {
    IommuWorld world;
    fakes::RecordingMapper host;
    host.sizes = ~std::uint64_t{0xffff};
    CHECK(world.domains.add_endpoint(EndpointId{0x40}, "large", host).error().code == Errc::unsupported);
}

} // namespace inox::iommu_domains_test
