// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/page_walk.hpp"

#include <atomic>
#include <thread>
#include <vector>

#include "tests/catch.hpp"
#include "tests/support/page_tables.hpp"

namespace inox::iommu_page_walk_test {

using iommu::PageAccess;
using iommu::PageFault;
using iommu::Paging;
using iommu::walk_pages;
using tests::PageTables;

namespace {

constexpr std::uint64_t ram_size = 16 * MiB;
constexpr std::uint64_t tables_at = 0x100000;
constexpr std::uint64_t linear = 0x7f12'3456'7000;

struct Guest {
    GuestMemory memory = *GuestMemory::create(ram_size, HugePages::none);
    PageTables tables;
    Paging paging;

    explicit Guest(unsigned levels = 4) : tables{memory, tables_at, levels} {
        paging.root = tables.root();
        paging.five_levels = levels == 5;
    }
    auto walk(std::uint64_t address, PageAccess access = {}) { return walk_pages(memory, paging, address, access); }
    PageFault fault(std::uint64_t address, PageAccess access = {}) {
        const auto result = walk(address, access);
        REQUIRE_FALSE(result);
        return result.error();
    }
    /// Bit 0: reading is allowed; bit 1: writing; bit 2: fetching; bits 3 to 5: the same for user accesses.
    unsigned allowed() {
        unsigned bits = 0;
        for (unsigned i = 0; i < 6; ++i)
            bits |= walk(linear, {.write = i % 3 == 1, .user = i >= 3, .fetch = i % 3 == 2}).has_value() ? 1U << i : 0U;
        return bits;
    }
};

} // namespace

TEST_CASE("a 4 KiB page is found through four and through five levels") {
    for (const unsigned levels : {4U, 5U}) {
        Guest guest{levels};
        guest.tables.map(linear, 0x400000);
        const auto page = guest.walk(linear + 0x123, {.user = true});
        REQUIRE(page);
        CHECK(page->address == Gpa{0x400123});
        CHECK(page->page_bits == 12);
        CHECK(page->user);
        CHECK(page->writable);
        CHECK_FALSE(page->dirty);
    }
}

TEST_CASE("large pages of 2 MiB and 1 GiB keep the low address bits") {
    Guest guest;
    guest.tables.map(0x40000000, 0x800000, PageTables::all, 2);
    guest.tables.map(0x80000000, 0x40000000, PageTables::all, 3);
    CHECK(guest.walk(0x40012345)->address == Gpa{0x812345});
    CHECK(guest.walk(0x40012345)->page_bits == 21);
    CHECK(guest.walk(0x92345678)->address == Gpa{0x52345678});
    CHECK(guest.walk(0x92345678)->page_bits == 30);
    SECTION("without 1 GiB pages the size bit is reserved") {
        guest.paging.one_gib_pages = false;
        CHECK(guest.fault(0x92345678) == PageFault{PageFault::Cause::reserved, 0x9});
    }
}

TEST_CASE("addresses that are not canonical never reach the tables") {
    Guest four;
    CHECK(four.fault(0x0000'8000'0000'0000).cause == PageFault::Cause::non_canonical);
    CHECK(four.fault(0xffff'7fff'ffff'ffff).cause == PageFault::Cause::non_canonical);
    CHECK(four.fault(0xffff'8000'0000'0000).cause == PageFault::Cause::not_present);
    Guest five{5};
    CHECK(five.fault(0x0000'8000'0000'0000).cause == PageFault::Cause::not_present);
    CHECK(five.fault(0x0100'0000'0000'0000).cause == PageFault::Cause::non_canonical);
    five.tables.map(0xff00'0000'0000'0000, 0x400000);
    CHECK(five.walk(0xff00'0000'0000'0000));
}

TEST_CASE("an absent entry at any level is not present") {
    for (unsigned level = 1; level <= 5; ++level) {
        Guest guest{5};
        guest.tables.map(linear, 0x400000);
        guest.tables.set(linear, level, guest.tables.get(linear, level) & ~std::uint64_t{1});
        CHECK(guest.fault(linear) == PageFault{PageFault::Cause::not_present, 0});
        CHECK(guest.fault(linear, {.write = true, .user = true}).code == 0x6);
        CHECK(guest.fault(linear, {.fetch = true}).code == 0x10);
    }
}

TEST_CASE("user, write and execute rights are those of the weakest level") {
    for (unsigned level = 1; level <= 4; ++level) {
        Guest guest;
        const auto with = [&](std::uint64_t cleared, std::uint64_t set = 0) {
            guest.tables.map(linear, 0x400000);
            guest.tables.set(linear, level, (guest.tables.get(linear, level) & ~cleared) | set);
            const auto bits = guest.allowed();
            guest.tables.set(linear, level, (guest.tables.get(linear, level) | cleared) & ~set);
            return bits;
        };
        CHECK(with(0) == 0b111'111);
        CHECK(with(PageTables::user) == 0b000'111);
        CHECK(with(PageTables::write) == 0b101'101);
        CHECK(with(0, PageTables::no_execute) == 0b011'011);
        guest.paging.write_protect = false;
        CHECK(with(PageTables::write) == 0b101'111);
        guest.paging.smep = true;
        CHECK(with(0) == 0b111'011);
        CHECK(with(PageTables::user) == 0b000'111);
        guest.paging.smap = true;
        CHECK(with(0) == 0b111'000);
        CHECK(with(PageTables::user) == 0b000'111);
        guest.paging.execute_disable = false;
        CHECK(with(0, PageTables::no_execute) == 0);
    }
}

TEST_CASE("a refused access says what was tried") {
    Guest guest;
    guest.tables.map(linear, 0x400000, PageTables::present | PageTables::no_execute);
    CHECK(guest.fault(linear, {.user = true}) == PageFault{PageFault::Cause::protection, 0x5});
    CHECK(guest.fault(linear, {.write = true}) == PageFault{PageFault::Cause::protection, 0x3});
    CHECK(guest.fault(linear, {.write = true, .user = true}).code == 0x7);
    CHECK(guest.fault(linear, {.user = true, .fetch = true}).code == 0x15);
    guest.paging.execute_disable = false;
    CHECK(guest.fault(linear, {.fetch = true}) == PageFault{PageFault::Cause::reserved, 0x9});
}

TEST_CASE("protection keys refuse data accesses to user pages") {
    Guest guest;
    guest.tables.map(linear, 0x400000, PageTables::all | 5ULL << 59);
    guest.paging.pkru = 1U << 10;
    CHECK(guest.fault(linear, {.user = true}) == PageFault{PageFault::Cause::protection, 0x25});
    CHECK(guest.fault(linear).code == 0x21);
    CHECK(guest.walk(linear, {.user = true, .fetch = true}));
    guest.paging.pkru = 2U << 10;
    CHECK(guest.walk(linear, {.user = true}));
    CHECK(guest.fault(linear, {.write = true, .user = true}).code == 0x27);
    guest.paging.write_protect = false;
    CHECK(guest.walk(linear, {.write = true}));
    guest.tables.map(linear, 0x400000, PageTables::present | PageTables::write | 5ULL << 59);
    guest.paging.pkru = 3U << 10;
    CHECK(guest.walk(linear)); // supervisor pages have no key
}

TEST_CASE("reserved bits are told apart from absent entries") {
    for (unsigned level = 1; level <= 4; ++level) {
        Guest guest;
        guest.paging.physical_bits = 40;
        guest.tables.map(linear, 0x400000);
        const auto value = guest.tables.get(linear, level);
        for (const unsigned bit : {40U, 51U}) {
            guest.tables.set(linear, level, value | 1ULL << bit);
            CHECK(guest.fault(linear, {.user = true}) == PageFault{PageFault::Cause::reserved, 0xd});
        }
        guest.tables.set(linear, level, value | 0x7ff0'0000'0000'0e00); // available bits and keys
        CHECK(guest.walk(linear));
    }
    Guest guest;
    guest.tables.map(linear, 0x400000);
    const auto top = guest.tables.get(linear, 4);
    guest.tables.set(linear, 4, top | PageTables::large);
    CHECK(guest.fault(linear).cause == PageFault::Cause::reserved);
    guest.tables.set(linear, 4, top);
    guest.tables.set(linear, 2, 0x400000 | PageTables::all | PageTables::large | 1U << 13);
    CHECK(guest.fault(linear).cause == PageFault::Cause::reserved);
    guest.tables.set(linear, 2, 0x400000 | PageTables::all | PageTables::large | 1U << 12); // PAT
    CHECK(guest.walk(linear));
}

TEST_CASE("accessed and dirty bits are set on the path that was used, and nowhere else") {
    Guest guest;
    guest.tables.map(linear, 0x400000);
    guest.tables.map(linear + 0x1000, 0x401000);
    REQUIRE(guest.walk(linear));
    for (unsigned level = 1; level <= 4; ++level) {
        CHECK((guest.tables.get(linear, level) & PageTables::accessed) != 0);
        CHECK((guest.tables.get(linear, level) & PageTables::dirty) == 0);
    }
    const auto page = guest.walk(linear, {.write = true});
    CHECK(page->dirty);
    CHECK((guest.tables.get(linear, 1) & PageTables::dirty) != 0);
    CHECK((guest.tables.get(linear, 2) & PageTables::dirty) == 0);
    CHECK((guest.tables.get(linear + 0x1000, 1) & (PageTables::accessed | PageTables::dirty)) == 0);
    CHECK(guest.walk(linear)->dirty);
}

TEST_CASE("a refused access leaves the tables as they were") {
    Guest guest;
    guest.tables.map(linear, 0x400000, PageTables::present | PageTables::user);
    CHECK_FALSE(guest.walk(linear, {.write = true}));
    for (unsigned level = 1; level <= 4; ++level)
        CHECK((guest.tables.get(linear, level) & (PageTables::accessed | PageTables::dirty)) == 0);
}

TEST_CASE("tables that point at themselves or outside RAM end in a fault") {
    Guest guest;
    guest.tables.map(linear, 0x400000);
    SECTION("the root is its own entry") {
        guest.tables.set(linear, 4, guest.tables.root() | PageTables::all);
        CHECK(guest.fault(linear).cause == PageFault::Cause::not_present);
    }
    SECTION("every level is the root: the page is the root itself") {
        const std::uint64_t self = (linear >> 39 & 511) * 0x8040201000ULL;
        guest.tables.set(linear, 4, guest.tables.root() | PageTables::all);
        const std::uint64_t sign = (self >> 47 & 1) != 0 ? 0xffff'0000'0000'0000 : 0;
        CHECK(guest.walk(self | sign)->address == Gpa{guest.tables.root()});
    }
    SECTION("a table beyond RAM") {
        for (unsigned level = 2; level <= 4; ++level) {
            const auto value = guest.tables.get(linear, level);
            for (const std::uint64_t place :
                 {ram_size, std::uint64_t{0xfee00000}, std::uint64_t{0x000f'ffff'ffff'f000}}) {
                guest.tables.set(linear, level, place | PageTables::all);
                CHECK(guest.fault(linear) == PageFault{PageFault::Cause::outside_ram, 0});
            }
            guest.tables.set(linear, level, value);
        }
        guest.paging.root = ram_size;
        CHECK(guest.fault(linear).cause == PageFault::Cause::outside_ram);
    }
    SECTION("a page beyond RAM is the caller's business") {
        guest.tables.map(linear, 0xfee00000);
        CHECK(guest.walk(linear)->address == Gpa{0xfee00000});
    }
}

TEST_CASE("a walker's neighbours have the rights of the levels above") {
    Guest guest;
    guest.tables.map(linear, 0x400000);
    guest.tables.map(linear + 0x1000, 0x600000);
    guest.tables.map(linear + 0x2000, 0x500000, PageTables::present);
    guest.tables.set(linear, 2, guest.tables.get(linear, 2) & ~std::uint64_t{PageTables::write});
    iommu::PageWalker walker{guest.memory, guest.paging};
    CHECK(walker.walk(linear, {.user = true})->address == Gpa{0x400000});
    CHECK(walker.walk(linear + 0x1008, {.user = true})->address == Gpa{0x600008});
    CHECK_FALSE(walker.walk(linear + 0x1008, {.write = true, .user = true}));
    CHECK_FALSE(walker.walk(linear + 0x2000, {.user = true}));
    CHECK(walker.walk(linear + 0x2000, {})->address == Gpa{0x500000});
    CHECK_FALSE(walker.walk(linear + 0x3000, {}));
    CHECK_FALSE(walker.walk(linear + 0x200000, {}));
}

TEST_CASE("bits the guest changes while a walk sets its own are never lost") {
    Guest guest;
    guest.tables.map(linear, 0x400000);
    const auto bytes = guest.memory.host(guest.tables.entry(linear, 1), 8);
    std::atomic_ref entry{*reinterpret_cast<std::uint64_t*>(bytes->data())}; // NOLINT
    constexpr std::uint64_t mine = 1ULL << 52;                               // counts in the available bits
    constexpr unsigned rounds = 1000;
    std::atomic<bool> stop{false};
    std::thread other{[&] {
        for (unsigned i = 0; i < rounds; ++i) {
            entry.fetch_add(mine);
            entry.fetch_and(~std::uint64_t{PageTables::accessed | PageTables::dirty});
        }
        stop = true;
    }};
    while (!stop) {
        const auto page = guest.walk(linear, {.write = true});
        if (page)
            CHECK(page->address == Gpa{0x400000});
        else
            CHECK(page.error().cause == PageFault::Cause::unstable);
    }
    other.join();
    REQUIRE(guest.walk(linear, {.write = true}));
    CHECK(entry.load() == (0x400000 | PageTables::all | PageTables::accessed | PageTables::dirty | mine * rounds));
}

TEST_CASE("a table that changes under the walk gives the old page or the new one") {
    Guest guest;
    guest.tables.map(linear, 0x400000);
    const auto old_table = guest.tables.get(linear, 2);
    PageTables other{guest.memory, 0x200000};
    other.map(linear, 0x500000);
    const auto new_table = other.get(linear, 2);
    std::atomic<bool> stop{false};
    std::thread writer{[&] {
        const auto bytes = guest.memory.host(guest.tables.entry(linear, 2), 8);
        std::atomic_ref entry{*reinterpret_cast<std::uint64_t*>(bytes->data())}; // NOLINT
        for (unsigned i = 0; !stop; ++i)
            entry.store(i % 2 == 0 ? new_table : old_table);
    }};
    for (unsigned i = 0; i < 20000; ++i) {
        const auto page = guest.walk(linear, {.user = true});
        if (page && page->address != Gpa{0x400000} && page->address != Gpa{0x500000})
            FAIL("neither the old nor the new page");
    }
    stop = true;
    writer.join();
}

} // namespace inox::iommu_page_walk_test
