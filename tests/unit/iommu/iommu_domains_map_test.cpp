// SPDX-License-Identifier: Apache-2.0
// The rules of virtio 1.3, 5.13.6.3 to 5.13.6.7, one test for each: what is mapped and unmapped.
#include "iommu/domains.hpp"

#include <future>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/iommu_world.hpp"

namespace inox::iommu_domains_map_test {

using fakes::IommuWorld;
using iommu::DomainId;
using iommu::EndpointId;
using iommu::Status;
using W = IommuWorld;
using IovaRange = Range<Iova>;

namespace {

constexpr std::uint64_t page = W::page;
constexpr std::uint64_t top = ~std::uint64_t{0};

} // namespace

// Map

TEST_CASE("map checks in the order of the specification") {
    struct Row {
        const char* name;
        std::uint32_t domain;
        std::uint64_t start, last, physical;
        std::uint32_t flags;
        Status status;
    };
    // Where possible, each row also breaks the rules of the rows below it.
    static constexpr std::uint64_t input_last = (std::uint64_t{1} << 40) - 1;
    const auto row = GENERATE(values<Row>({
        {"an unknown flag", 9, 1, 0, 1, 8, Status::invalid},
        {"no such domain", 9, 1, 0, 1, 3, Status::no_entry},
        {"a bypass domain", 2, 1, 0, 1, 3, Status::invalid},
        {"an end before the start", 1, 0x5000, 0x1fff, 1, 3, Status::invalid},
        {"one byte", 1, 0x5000, 0x5000, 0, 3, Status::invalid},
        {"a misaligned start", 1, 0x5001, 0x5fff, 0, 3, Status::range},
        {"a misaligned end", 1, 0x5000, 0x5ffe, 0, 3, Status::range},
        {"a misaligned physical address", 1, 0x5000, 0x5fff, 0x800, 3, Status::range},
        {"outside the input range", 1, input_last + 1, input_last + page, 0, 3, Status::range},
        {"reaching out of the input range", 1, 0, input_last + page, 0, 3, Status::range},
        {"the last page of 64 bits", 1, top - 0xfff, top, 0, 3, Status::range},
        {"physical addresses that wrap", 1, 0x5000, 0x6fff, top - 0xfff, 3, Status::range},
        {"an overlap", 1, 0x8000, 0x8fff, top - 0xfff, 3, Status::invalid},
        {"an overlap by a page", 1, 0x5000, 0x8fff, 0x10000, 3, Status::invalid},
        {"the MSI window", 1, 0xfee00000, 0xfee00fff, 0x10000, 3, Status::invalid},
        {"over the MSI window", 1, 0xfed00000, 0xfeffffff, 0x10000, 3, Status::invalid},
        {"no memory there", 1, 0x5000, 0x5fff, 0x80000000, 3, Status::fault},
        {"over the end of memory", 1, 0x5000, 0x6fff, 4 * MiB - page, 3, Status::fault},
        {"registers of another device", 1, 0x5000, 0x5fff, 0xc2000000, 0, Status::fault},
        {"no permission at all", 1, 0x5000, 0x5fff, 0x10000, 0, Status::ok},
        {"a good one", 1, 0x5000, 0x5fff, 0x10000, 3, Status::ok},
        {"the last page of the input range", 1, input_last - 0xfff, input_last, 0x10000, 1, Status::ok},
    }));
    CAPTURE(row.name);
    IommuWorld world{{.address_bits = 40}};
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.attach(2, W::disk, true) == Status::ok);
    REQUIRE(world.map(1, 8, 8) == Status::ok);
    const auto before = world.nvme_host.held;
    CHECK(world.domains.map(DomainId{row.domain}, Iova{row.start}, Iova{row.last}, Gpa{row.physical}, row.flags) ==
          row.status);
    CHECK(world.mappings(1) == (row.status == Status::ok ? 2 : 1));
    if (row.status != Status::ok)
        CHECK(world.nvme_host.held == before);
}

TEST_CASE(
    "registers of another device cannot be mapped, with the MMIO flag or without: no answer is ok without effect") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    constexpr Gpa bar{0xc2000000};
    CHECK(world.domains.map(DomainId{1}, Iova{0}, Iova{0xfff}, bar, W::read | W::write | W::mmio) == Status::invalid);
    CHECK(world.domains.map(DomainId{1}, Iova{0}, Iova{0xfff}, bar, W::read | W::write) == Status::fault);
    CHECK(world.domains.map(DomainId{1}, Iova{0}, Iova{0xfff}, Gpa{0}, W::read | W::mmio) == Status::invalid);
    CHECK(world.mappings(1) == 0);
    CHECK(world.nvme_host.maps == 0);
    CHECK(world.domains.map(DomainId{1}, Iova{0}, Iova{0xfff}, Gpa{0}, W::read) == Status::ok);
}

TEST_CASE("a mapping over what is reserved for any endpoint of the domain is refused") {
    IommuWorld world;
    fakes::RecordingMapper picky;
    picky.reserved_regions = {{*IovaRange::closed(Iova{0x100000}, Iova{0x1fffff}), iommu::ReservedKind::reserved},
                              {*IovaRange::closed(Iova{0x900000}, Iova{0x9fffff}), iommu::ReservedKind::direct}};
    picky.usable = {*IovaRange::closed(Iova{0}, Iova{0x7fffffffff})};
    const auto stay = *world.domains.add_endpoint(EndpointId{0x40}, "picky", picky);
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    CHECK(world.map(1, 0x100, 0x100) == Status::ok);
    CHECK(world.unmap(1, 0x100, 0x100) == Status::ok);
    REQUIRE(world.attach(1, EndpointId{0x40}) == Status::ok);
    CHECK(world.map(1, 0x100, 0x100) == Status::invalid);
    CHECK(world.map(1, 0x9ff, 0xa00) == Status::invalid);
    CHECK(world.map(1, 0x8000000, 0x8000000) == Status::invalid); // beyond 39 bits
    CHECK(world.map(1, 0x7ffffff, 0x7ffffff) == Status::ok);
    CHECK(picky.held.size() == 1);
}

TEST_CASE("limits on mappings and domains answer that memory is short") {
    IommuWorld world{{.domains = 2, .mappings = 3}};
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.attach(2, W::disk) == Status::ok);
    CHECK(world.attach(3, W::net) == Status::no_memory);
    CHECK(world.attach(3, W::disk) == Status::ok); // this removes domain 2, so there is room
    REQUIRE(world.map(1, 0, 0) == Status::ok);
    REQUIRE(world.map(1, 1, 1) == Status::ok);
    REQUIRE(world.map(3, 0, 0) == Status::ok);
    CHECK(world.map(3, 1, 1) == Status::no_memory);
    CHECK(world.map(1, 2, 2) == Status::no_memory);
    REQUIRE(world.unmap(1, 0, 1) == Status::ok);
    CHECK(world.map(3, 1, 1) == Status::ok);
}

TEST_CASE("the host's own limit answers that memory is short") {
    IommuWorld world;
    world.nvme_host.most = 2;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.map(1, 0, 0) == Status::ok);
    REQUIRE(world.map(1, 1, 1) == Status::ok);
    CHECK(world.map(1, 2, 2) == Status::no_memory);
    CHECK(world.mappings(1) == 2);
}

// Unmap

TEST_CASE("unmap follows the table of the specification") {
    using Pair = std::pair<std::uint64_t, std::uint64_t>;
    struct Row {
        const char* name;
        std::vector<Pair> before;
        Pair unmap;
        Status status;
        std::size_t left;
    };
    const auto row = GENERATE(values<Row>({
        {"nothing there", {}, {0, 4}, Status::ok, 0},
        {"exactly one", {{0, 9}}, {0, 9}, Status::ok, 0},
        {"two that touch", {{0, 4}, {5, 9}}, {0, 9}, Status::ok, 0},
        {"the front half of one", {{0, 9}}, {0, 4}, Status::range, 1},
        {"the first of two", {{0, 4}, {5, 9}}, {0, 4}, Status::ok, 1},
        {"one and more", {{0, 4}}, {0, 9}, Status::ok, 0},
        {"two with a hole", {{0, 4}, {10, 14}}, {0, 14}, Status::ok, 0},
        {"the back half", {{0, 9}}, {5, 9}, Status::range, 1},
        {"the middle", {{0, 9}}, {3, 5}, Status::range, 1},
        {"one and half of the next", {{0, 4}, {5, 9}}, {0, 6}, Status::range, 2},
        {"all of three", {{0, 0}, {1, 1}, {4, 8}}, {0, 100}, Status::ok, 0},
    }));
    CAPTURE(row.name);
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    for (const auto& [first, last] : row.before)
        REQUIRE(world.map(1, first, last) == Status::ok);
    CHECK(world.unmap(1, row.unmap.first, row.unmap.second) == row.status);
    CHECK(world.mappings(1) == row.left);
    CHECK(world.nvme_host.held.size() == row.left);
    CHECK(world.reach(0).has_value() == (row.left != 0 && !(row.unmap.first == 0 && row.status == Status::ok)));
}

TEST_CASE("unmap refuses domains that are not there and ends before starts") {
    IommuWorld world;
    REQUIRE(world.attach(2, W::disk, true) == Status::ok);
    CHECK(world.unmap(1, 0, 0) == Status::no_entry);
    CHECK(world.unmap(2, 0, 0) == Status::invalid);
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    CHECK(world.domains.unmap(DomainId{1}, Iova{0x2000}, Iova{0x1fff}) == Status::invalid);
}

TEST_CASE("an endpoint whose host does not unmap is detached, and the others have lost the mapping") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.attach(1, W::nic) == Status::ok);
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    REQUIRE(world.map(1, 0, 3) == Status::ok);
    bool once = true;
    world.nvme_host.fails = [&] { return std::exchange(once, false); };
    CHECK(world.unmap(1, 0, 3) == Status::device_error);
    CHECK(world.mappings(1) == 0);
    CHECK(world.nvme_host.held.empty());
    CHECK(world.state(W::nvme) == W::State::blocked);
    CHECK(world.nic_host.held.empty());
    CHECK(world.state(W::nic) == W::State::attached);
    CHECK_FALSE(world.reach(0));
}

TEST_CASE("a host that never gives back is known as lost until it does") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.map(1, 0, 3) == Status::ok);
    world.nvme_host.fails = [] { return true; };
    CHECK(world.detach(1, W::nvme) == Status::device_error);
    CHECK(world.state(W::nvme) == W::State::lost);
    CHECK(world.attach(1, W::nvme) == Status::device_error);
    world.nvme_host.fails = {};
    CHECK(world.attach(1, W::nvme) == Status::ok);
    CHECK(world.state(W::nvme) == W::State::attached);
    CHECK(world.nvme_host.held.empty());
}

// The whole space

TEST_CASE("the last page of the 64-bit space is mapped and unmapped as any other") {
    IommuWorld world{{.address_bits = 64}};
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    const std::uint64_t last_page = top / page;
    REQUIRE(world.map(1, last_page, last_page, 20) == Status::ok);
    CHECK(world.nvme_host.held.at(last_page * page).range.last() == Iova{top});
    CHECK(world.reach(last_page) == 20);
    CHECK(world.map(1, last_page - 1, last_page) == Status::invalid);
    CHECK(world.domains.unmap(DomainId{1}, Iova{last_page * page}, Iova{top - 1}) == Status::range);
    CHECK(world.unmap(1, last_page, last_page) == Status::ok);
    CHECK(world.nvme_host.held.empty());
}

TEST_CASE("one request unmaps everything there is") {
    IommuWorld world{{.address_bits = 64}};
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{77}, std::uint64_t{1} << 51, top / page})
        REQUIRE(world.map(1, at, at) == Status::ok);
    CHECK(world.domains.unmap(DomainId{1}, Iova{0}, Iova{top}) == Status::ok);
    CHECK(world.mappings(1) == 0);
    CHECK(world.nvme_host.held.empty());
    CHECK(world.domains.unmap(DomainId{1}, Iova{0}, Iova{top}) == Status::ok);
}

TEST_CASE("the halves of the space can be unmapped one by one") {
    IommuWorld world{{.address_bits = 64}};
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    constexpr std::uint64_t half = std::uint64_t{1} << 63;
    REQUIRE(world.map(1, half / page - 1, half / page - 1) == Status::ok);
    REQUIRE(world.map(1, half / page, half / page) == Status::ok);
    CHECK(world.domains.unmap(DomainId{1}, Iova{0}, Iova{half - 1}) == Status::ok);
    CHECK(world.nvme_host.held.size() == 1);
    CHECK(world.domains.unmap(DomainId{1}, Iova{half}, Iova{top}) == Status::ok);
    CHECK(world.nvme_host.held.empty());
}

TEST_CASE("a mapping as large as the space is refused: it is more than there is memory") {
    IommuWorld world{{.address_bits = 64}, false, false};
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    CHECK(world.domains.map(DomainId{1}, Iova{0}, Iova{top}, Gpa{0}, W::read) == Status::invalid); // the MSI window
    CHECK(world.domains.map(DomainId{1}, Iova{0xfef00000}, Iova{top}, Gpa{0}, W::read) == Status::fault);
    CHECK(world.domains.unmap(DomainId{1}, Iova{0}, Iova{top}) == Status::ok);
}

TEST_CASE("operators see the IOMMU while a host takes its time to map: nothing they look at waits for it") {
    IommuWorld world;
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.map(1, 8, 8) == Status::ok);
    std::promise<void> mapping;
    std::promise<void> done;
    world.nvme_host.on_call = [&, first = true]() mutable {
        if (std::exchange(first, false)) {
            mapping.set_value();
            done.get_future().wait();
        }
    };
    auto mapped = Status::device_error;
    std::jthread guest{[&] { mapped = world.map(1, 16, 16); }};
    mapping.get_future().wait();
    auto look = std::async(std::launch::async, [&] {
        return world.domains.endpoints().size() == 4 && world.domains.domains().size() == 1 && world.mappings(1) == 1 &&
               world.domains.mapping_count() == 1 && !world.domains.bypass() && !world.domains.has_driver();
    });
    const bool seen = look.wait_for(std::chrono::seconds{20}) == std::future_status::ready;
    done.set_value();
    CHECK(seen);
    CHECK(look.get());
    guest.join();
    CHECK(mapped == Status::ok);
    CHECK(world.mappings(1) == 2);
}

} // namespace inox::iommu_domains_map_test
