// SPDX-License-Identifier: Apache-2.0
// Walks over many pages at once: they find the same as a walk for each page, and leave the same tables behind.
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "iommu/pasid/page_walk.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/pasid_guest.hpp"
#include "tests/support/page_tables.hpp"
#include "tests/support/translate.hpp"

namespace inox::iommu_page_run_test {

using fakes::PasidGuest;
using iommu::PageAccess;
using iommu::PageFault;
using iommu::PageRun;
using iommu::PageWalker;
using iommu::Paging;
using iommu::PasidStatus;
using tests::PageTables;

namespace {

constexpr std::uint64_t linear = 0x7f12'3440'0000; // where a table begins
constexpr std::uint64_t settled = PageTables::all | PageTables::accessed | PageTables::dirty;
constexpr unsigned page_count = 1024; // two tables

struct Guest {
    GuestMemory memory = *GuestMemory::create(16 * MiB, HugePages::none);
    PageTables tables{memory, 0x100000};
    Paging paging{};

    Guest() { paging.root = tables.root(); }
};

/// What an access to every page finds: addresses of pages until one faults.
struct Walked {
    std::vector<std::uint64_t> pages{};
    std::optional<PageFault> fault{};
    bool operator==(const Walked&) const = default;
};

Walked by_runs(Guest& guest, PageAccess access) {
    Walked out;
    PageWalker walker{guest.memory, guest.paging};
    for (std::uint64_t at = linear; at < linear + page_count * page_size;) {
        const auto run = walker.run(at, linear + page_count * page_size - at, access);
        if (!run) {
            out.fault = run.error();
            break;
        }
        REQUIRE(run->size != 0);
        REQUIRE(run->size % page_size == 0);
        for (std::uint64_t done = 0; done < run->size; done += page_size)
            out.pages.push_back(run->address.raw() + done);
        at += run->size;
    }
    return out;
}

Walked by_pages(Guest& guest, PageAccess access) {
    Walked out;
    for (std::uint64_t at = linear; at < linear + page_count * page_size; at += page_size) {
        const auto page = iommu::walk_pages(guest.memory, guest.paging, at, access);
        if (!page) {
            out.fault = page.error();
            break;
        }
        out.pages.push_back(page->address.raw());
    }
    return out;
}

std::vector<std::byte> bytes_of(const Guest& guest) {
    std::vector<std::byte> bytes(64 * page_size);
    REQUIRE(guest.memory.read(Gpa{0x100000}, bytes));
    return bytes;
}

} // namespace

TEST_CASE("a run goes on while pages lie side by side and nothing has to be set") {
    Guest guest;
    PageWalker walker{guest.memory, guest.paging};
    for (unsigned i = 0; i < 8; ++i)
        guest.tables.map(linear + i * page_size, 0x400000 + i * page_size, settled);
    guest.tables.map(linear + 8 * page_size, 0x600000, settled);
    CHECK(walker.run(linear + 0x10, MiB, {.user = true}) == PageRun{Gpa{0x400010}, 8 * page_size - 0x10});
    CHECK(walker.run(linear + 0x10, 0x2000, {.write = true}) == PageRun{Gpa{0x400010}, 0x2000});
    CHECK(walker.run(linear + 0xfff, 1, {}) == PageRun{Gpa{0x400fff}, 1});
    CHECK(walker.run(linear + 8 * page_size, 5 * page_size, {}) == PageRun{Gpa{0x600000}, 0x1000});
    CHECK_FALSE(walker.run(linear + 9 * page_size, 1, {}));
    SECTION("not over a page without its dirty bit, for a write") {
        guest.tables.map(linear + 3 * page_size, 0x403000, settled & ~PageTables::dirty);
        CHECK(walker.run(linear, MiB, {.write = true}) == PageRun{Gpa{0x400000}, 0x3000});
        CHECK((guest.tables.get(linear + 3 * page_size, 1) & PageTables::dirty) == 0);
        CHECK(walker.run(linear + 0x3000, MiB, {.write = true}) == PageRun{Gpa{0x403000}, 0x5000});
        CHECK((guest.tables.get(linear + 3 * page_size, 1) & PageTables::dirty) != 0);
        CHECK(walker.run(linear, MiB, {}) == PageRun{Gpa{0x400000}, 0x8000});
    }
}

TEST_CASE("runs and walks agree on random tables, for every kind of access") {
    std::mt19937_64 random{Catch::rngSeed() + 7};
    for (unsigned turn = 0; turn < 60; ++turn) {
        std::array<Guest, 2> guests;
        const unsigned odd = turn % 3 == 0 ? 4 : 200; // of so many pages, one is different from its neighbours
        Paging paging = guests[0].paging;
        paging.write_protect = random() % 2;
        paging.execute_disable = random() % 4 != 0;
        paging.smap = random() % 4 == 0;
        paging.physical_bits = random() % 2 ? 52 : 40;
        if (random() % 4 == 0)
            paging.pkru = static_cast<std::uint32_t>(random());
        std::uint64_t next = 0x400000;
        for (unsigned i = 0; i < page_count; ++i) {
            std::uint64_t entry = (next += page_size) | settled;
            if (random() % odd == 0)
                switch (random() % 6) {
                case 0:
                    next = 0x400000 + random() % 2048 * page_size;
                    break;
                case 1:
                    entry |= PageTables::no_execute;
                    break;
                case 2:
                    entry |= 1ULL << 45;
                    break;
                case 3:
                    entry ^= 0x80; // page attributes
                    break;
                default:
                    entry ^= 1ULL << (random() % 50 == 0 ? random() % 3 : 5 + random() % 2);
                }
            for (auto& guest : guests)
                guest.tables.set(linear + i * page_size, 1, entry);
        }
        const std::uint64_t lost = random() % 4 == 0 ? std::uint64_t{1} << (random() % 2 + 1) : 0;
        for (auto& guest : guests) {
            guest.paging = paging;
            guest.tables.set(linear, 2, guest.tables.get(linear, 2) & ~lost);
        }
        for (unsigned kind = 0; kind < 6; ++kind) {
            const PageAccess access{.write = kind % 3 == 1, .user = kind >= 3, .fetch = kind % 3 == 2};
            REQUIRE(by_runs(guests[0], access) == by_pages(guests[1], access));
            REQUIRE(bytes_of(guests[0]) == bytes_of(guests[1]));
        }
    }
}

TEST_CASE("an entry that changes under a run gives the old page or the new one, and never a neighbour's") {
    Guest guest;
    for (unsigned i = 0; i < 64; ++i)
        guest.tables.map(linear + i * page_size, 0x400000 + i * page_size, settled);
    const auto bytes = guest.memory.host(guest.tables.entry(linear + 32 * page_size, 1), 8);
    std::atomic_ref entry{*reinterpret_cast<std::uint64_t*>(bytes->data())}; // NOLINT
    std::atomic<bool> stop{false};
    std::thread writer{[&] {
        constexpr std::uint64_t values[] = {0x420000 | settled, 0x800000 | settled, 0, settled};
        for (unsigned i = 0; !stop; ++i)
            entry.store(values[i % 4]);
    }};
    for (unsigned i = 0; i < 20000; ++i) {
        PageWalker walker{guest.memory, guest.paging};
        const auto before = walker.run(linear, 64 * page_size, {.write = true, .user = true});
        if (!before || before->address != Gpa{0x400000} ||
            (before->size != 32 * page_size && before->size != 64 * page_size))
            FAIL("the pages before it are as they were");
        const auto there = walker.run(linear + 32 * page_size, page_size, {.write = true, .user = true});
        if (there && there->address != Gpa{0x420000} && there->address != Gpa{0x800000} && there->address != Gpa{0})
            FAIL("neither an old nor a new page");
    }
    stop = true;
    writer.join();
}

TEST_CASE("a long request is served whole or refused at the first byte that cannot be had") {
    PasidGuest guest;
    auto tables = guest.tables(0);
    const std::uint64_t end = PasidGuest::ram_size;
    for (std::uint64_t i = 0; i < 64; ++i)
        tables.map(0x10000 + i * page_size, end - 32 * page_size + i * page_size);
    const auto pasid = guest.alloc();
    REQUIRE(guest.service->bind(PasidGuest::endpoint, pasid, PasidGuest::bound(tables)) == PasidStatus::ok);
    const auto memory = guest.service->memory(PasidGuest::endpoint, guest.host(pasid));
    const auto request = [&](std::uint64_t pages, Access access) {
        std::vector<iovec> pieces;
        const bool good =
            tests::translate(*memory, *Range<Iova>::sized(Iova{0x10000}, pages * page_size), access, pieces);
        CHECK(pieces.size() == (good ? 1 : 0)); // neighbours become one piece
        return good;
    };
    for (int twice = 0; twice < 2; ++twice) {
        CHECK(request(32, Access::write));
        CHECK(request(32, Access::read));
    }
    CHECK((tables.get(0x10000 + 31 * page_size, 1) & PageTables::dirty) != 0);
    for (int i = 0; i < 2; ++i) {
        CHECK_FALSE(request(40, Access::read)); // in the second turn every entry is settled
        CHECK(guest.faults.back().cause == PageFault::Cause::outside_ram);
        CHECK(guest.faults.back().address == Iova{0x10000 + 32 * page_size});
    }
    tables.map(0x10000 + 20 * page_size, 0, 0);
    CHECK_FALSE(request(32, Access::write));
    CHECK(guest.faults.back().cause == PageFault::Cause::not_present);
    CHECK(guest.faults.back().address == Iova{0x10000 + 20 * page_size});
    CHECK(guest.faults.size() == 3);
}

} // namespace inox::iommu_page_run_test
