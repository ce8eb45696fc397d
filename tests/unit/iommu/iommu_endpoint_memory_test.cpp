// SPDX-License-Identifier: Apache-2.0
// What an emulated device reaches through its domain; and that it reaches nothing through a removed mapping.
#include "iommu/endpoint_memory.hpp"

#include <atomic>
#include <cstring>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "tests/support/translate.hpp"

namespace inox::iommu_endpoint_memory_test {

using fakes::IommuWorld;
using iommu::DomainId;
using iommu::Fault;
using iommu::Status;
using W = IommuWorld;
using IovaRange = Range<Iova>;

namespace {

constexpr std::uint64_t page = W::page;

struct Disk {
    IommuWorld world{{}, false, false};
    iommu::EndpointMemory& memory{*world.disk_memory};

    Disk() { REQUIRE(world.attach(1, W::disk) == Status::ok); }
    std::vector<std::pair<std::uint64_t, std::uint64_t>> pieces(std::uint64_t start, std::uint64_t size,
                                                                Access access = Access::read) {
        const auto hold = memory.hold();
        std::vector<iovec> out;
        std::vector<std::pair<std::uint64_t, std::uint64_t>> found;
        if (!tests::translate(memory, *IovaRange::sized(Iova{start}, size), access, out))
            REQUIRE(out.empty());
        for (const iovec& piece : out)
            found.emplace_back(static_cast<std::byte*>(piece.iov_base) - world.ram.memory.regions()[0].host.data(),
                               piece.iov_len);
        return found;
    }
    Fault last_fault() { return world.domains.faults().latest().back().fault; }
};
using Pieces = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

} // namespace

TEST_CASE("a buffer over several mappings comes in pieces, in order") {
    Disk disk;
    REQUIRE(disk.world.map(1, 0, 1, 100) == Status::ok);
    REQUIRE(disk.world.map(1, 2, 2, 50) == Status::ok);
    REQUIRE(disk.world.map(1, 3, 3, 51) == Status::ok);
    for (const int again : {0, 1, 2}) {
        CAPTURE(again);
        CHECK(disk.pieces(0x800, 0x100) == Pieces{{100 * page + 0x800, 0x100}});
        CHECK(disk.pieces(0x1800, 0x2000) ==
              Pieces{{101 * page + 0x800, 0x800}, {50 * page, 0x1800}}); // neighbours become one piece
        CHECK(disk.pieces(0, 4 * page) == Pieces{{100 * page, 2 * page}, {50 * page, 2 * page}});
    }
    const auto counts = disk.memory.counts();
    CHECK(counts.misses > 0);
    CHECK(counts.hits > counts.misses);
    CHECK(counts.faults == 0);
}

TEST_CASE("faults name the first byte, the access and the reason, and nothing is translated") {
    struct Row {
        std::uint64_t start, size;
        Access access;
        Fault::Reason reason;
        std::uint64_t address;
    };
    const auto row = GENERATE(values<Row>({
        {0x0, 8, Access::read, Fault::Reason::mapping, 0x0},
        {0x1ff8, 0x10, Access::write, Fault::Reason::mapping, 0x2000},   // read-only page
        {0x2ff8, 0x10, Access::read, Fault::Reason::mapping, 0x3000},    // hole
        {0x1000, 0x4000, Access::read, Fault::Reason::mapping, 0x3000},  //
        {0x4000, 1, Access::read, Fault::Reason::mapping, 0x4000},       // no permission
        {0x2000, 1, Access::read_write, Fault::Reason::mapping, 0x2000}, //
        {~std::uint64_t{0}, 1, Access::read, Fault::Reason::mapping, ~std::uint64_t{0}},
    }));
    Disk disk;
    REQUIRE(disk.world.map(1, 1, 1, 100) == Status::ok);
    REQUIRE(disk.world.map(1, 2, 2, 200, W::read) == Status::ok);
    REQUIRE(disk.world.map(1, 4, 4, 300, 0) == Status::ok);
    for (std::uint64_t count = 1; count <= 2; ++count) {
        CHECK(disk.pieces(row.start, row.size, row.access).empty());
        CHECK(disk.last_fault() == Fault{W::disk, row.reason, row.access, Iova{row.address}});
        CHECK(disk.world.domains.faults().total() == count);
        CHECK(disk.memory.counts().faults == count);
    }
}

TEST_CASE("outside of any domain the reason is that there is none; memory that bypasses faults nowhere") {
    Disk disk;
    REQUIRE(disk.world.detach(1, W::disk) == Status::ok);
    CHECK(disk.pieces(0x1000, 8, Access::write).empty());
    CHECK(disk.last_fault() == Fault{W::disk, Fault::Reason::domain, Access::write, Iova{0x1000}});
    disk.world.domains.set_bypass(true);
    CHECK(disk.pieces(0x1000, 8, Access::write) == Pieces{{0x1000, 8}});
    CHECK(disk.pieces(4 * MiB - 4, 8).empty());
    CHECK(disk.world.domains.faults().total() == 1);
}

TEST_CASE("what is unmapped is unreachable at once, what stays is still cached") {
    Disk disk;
    REQUIRE(disk.world.map(1, 0, 0, 100) == Status::ok);
    REQUIRE(disk.world.map(1, 1, 1, 101) == Status::ok);
    CHECK(disk.pieces(0, 2 * page).size() == 1);
    const auto before = disk.memory.generation();
    REQUIRE(disk.world.unmap(1, 0, 0) == Status::ok);
    CHECK(disk.memory.generation() != before);
    CHECK(disk.pieces(0, 8).empty());
    const auto misses = disk.memory.counts().misses;
    CHECK(disk.pieces(page, 8).size() == 1);
    CHECK(disk.memory.counts().misses == misses);
    REQUIRE(disk.world.map(1, 0, 0, 7) == Status::ok);
    CHECK(disk.pieces(0, 8) == Pieces{{7 * page, 8}});
}

TEST_CASE("moving to another domain, resetting and leaving change what is reached, and the generation") {
    Disk disk;
    REQUIRE(disk.world.map(1, 0, 0, 100) == Status::ok);
    REQUIRE(disk.world.attach(2, W::net) == Status::ok);
    REQUIRE(disk.world.map(2, 0, 0, 200) == Status::ok);
    CHECK(disk.pieces(0, 8) == Pieces{{100 * page, 8}});
    auto generation = disk.memory.generation();
    const auto changed = [&] {
        return std::exchange(generation, disk.memory.generation()) != disk.memory.generation();
    };
    REQUIRE(disk.world.attach(2, W::disk) == Status::ok);
    CHECK(changed());
    CHECK(disk.pieces(0, 8) == Pieces{{200 * page, 8}});
    disk.world.domains.reset();
    CHECK(changed());
    CHECK(disk.pieces(0, 8).empty());
    disk.world.stays.clear();
    CHECK(changed());
    CHECK(disk.pieces(0, 8).empty());
}

TEST_CASE("copies through the domain are whole or not at all") {
    Disk disk;
    REQUIRE(disk.world.map(1, 0, 0, 100) == Status::ok);
    REQUIRE(disk.world.map(1, 1, 1, 300) == Status::ok);
    const auto hold = disk.memory.hold();
    REQUIRE(disk.memory.write(Iova{page - 4}, std::uint64_t{0x1122334455667788}));
    CHECK(disk.memory.read<std::uint64_t>(Iova{page - 4}) == 0x1122334455667788);
    CHECK(disk.world.ram.get<std::uint32_t>(101 * page - 4) == 0x55667788);
    CHECK(disk.world.ram.get<std::uint32_t>(300 * page) == 0x11223344);
    CHECK_FALSE(disk.memory.write(Iova{2 * page - 4}, std::uint64_t{0}));
    CHECK(disk.world.ram.get<std::uint32_t>(301 * page - 4) == 0);
}

TEST_CASE("the latest faults are kept, with their numbers, and listeners hear of each") {
    Disk disk;
    unsigned heard = 0;
    {
        const auto listening = disk.world.domains.faults().listen([&](const iommu::Faults::Entry&) { ++heard; });
        for (std::uint64_t i = 0; i < 100; ++i)
            CHECK(disk.pieces(i * page, 1).empty());
    }
    CHECK(disk.pieces(100 * page, 1).empty());
    CHECK(heard == 100);
    const auto latest = disk.world.domains.faults().latest();
    REQUIRE(latest.size() == iommu::Faults::kept);
    CHECK(latest.front().number == 101 - iommu::Faults::kept + 1);
    CHECK(latest.back().number == 101);
    CHECK(latest.back().fault.address == Iova{100 * page});
}

// The guest maps a page, lets devices work, and unmaps it. As soon as it has the answer, it uses the page for something
// else, without further synchronisation. A device that still used the old mapping would destroy that. The thread
// sanitizer would report the race even if nothing was destroyed.
TEST_CASE("after the guest has its answer no device accesses memory through the old mapping") {
    IommuWorld world{{}, false, false};
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    REQUIRE(world.attach(1, W::net) == Status::ok);
    std::byte* ram = world.ram.memory.regions()[0].host.data();
    constexpr std::uint64_t pages = 4; // IOVA pages 0..3 to physical 100..103
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> writes{0};
    const auto device = [&](const iommu::EndpointMemory& memory, unsigned char mark, bool at_length) {
        std::vector<iovec> out;
        while (!stop) {
            const auto hold = memory.hold();
            for (std::uint64_t at = 0; at < pages; ++at) {
                out.clear();
                if (!tests::translate(memory, *IovaRange::sized(Iova{at * page + mark * 64U}, 64), Access::write, out))
                    continue;
                if (at_length) // like asynchronous I/O
                    std::this_thread::yield();
                for (const iovec& piece : out)
                    std::memset(piece.iov_base, mark, piece.iov_len);
                writes.fetch_add(1, std::memory_order_relaxed);
            }
        }
    };
    std::vector<std::jthread> threads;
    threads.emplace_back([&] { device(*world.disk_memory, 1, false); });
    threads.emplace_back([&] { device(*world.disk_memory, 2, true); }); // two threads share a cache
    threads.emplace_back([&] { device(*world.net_memory, 3, false); });
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{2};
    std::uint64_t rounds = 0;
    std::uint64_t wrong = 0;
    for (; rounds < 40 || (rounds < 3000 && std::chrono::steady_clock::now() < deadline); ++rounds) {
        const std::uint64_t at = rounds % pages;
        REQUIRE(world.map(1, at, at, 100 + at) == Status::ok);
        const auto before = writes.load();
        while (writes.load() < before + 2 && rounds % 4 == 0)
            std::this_thread::yield();
        switch (rounds % 8) { // each way in which a mapping can be removed
        case 5:
            REQUIRE(world.detach(1, W::disk) == Status::ok);
            REQUIRE(world.detach(1, W::net) == Status::ok);
            REQUIRE(world.attach(1, W::disk) == Status::ok);
            REQUIRE(world.attach(1, W::net) == Status::ok);
            break;
        case 6:
            world.domains.reset();
            REQUIRE(world.attach(1, W::net) == Status::ok);
            REQUIRE(world.attach(1, W::disk) == Status::ok);
            break;
        default:
            REQUIRE(world.unmap(1, at, at) == Status::ok);
        }
        std::memset(ram + (100 + at) * page, 0x5a, page);
        for (int look = 0; look < 3; ++look) {
            std::this_thread::yield();
            for (std::uint64_t i = 0; i < page; i += 64)
                wrong += ram[(100 + at) * page + i] != std::byte{0x5a} ? 1 : 0;
        }
    }
    stop = true;
    threads.clear();
    CHECK(writes > 20);
    CHECK(wrong == 0);
}

} // namespace inox::iommu_endpoint_memory_test
