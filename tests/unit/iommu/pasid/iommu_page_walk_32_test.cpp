// SPDX-License-Identifier: Apache-2.0
// Walks outside long mode, with tables laid out by hand.
#include "iommu/pasid/page_walk.hpp"
#include "tests/catch.hpp"

namespace inox::iommu_page_walk_32_test {

using iommu::PageAccess;
using iommu::PageFault;
using iommu::Paging;
using iommu::PagingMode;
using Cause = PageFault::Cause;

namespace {

enum Bits : std::uint64_t { present = 1, writable = 2, user = 4, accessed = 0x20, dirty = 0x40, large = 0x80 };
constexpr std::uint64_t all = present | writable | user;
constexpr std::uint64_t no_execute = 1ULL << 63;

/// The tables of each level have a fixed place.
struct Guest {
    static constexpr std::uint64_t root = 0x100000, second = 0x101000, first = 0x102000;

    GuestMemory memory = *GuestMemory::create(16 * MiB, HugePages::none);
    Paging paging;

    explicit Guest(PagingMode mode) {
        paging.mode = mode;
        paging.root = root;
        paging.physical_bits = 40;
        paging.execute_disable = mode == PagingMode::pae;
    }
    template <class Entry> void set(std::uint64_t table, std::size_t index, Entry value) {
        REQUIRE(memory.write(Gpa{table + index * sizeof(Entry)}, value));
    }
    template <class Entry> Entry get(std::uint64_t table, std::size_t index) {
        return *memory.read<Entry>(Gpa{table + index * sizeof(Entry)});
    }
    auto walk(std::uint64_t linear, PageAccess access = {}) {
        return iommu::walk_pages(memory, paging, linear, access);
    }
    PageFault fault(std::uint64_t linear, PageAccess access = {}) {
        const auto result = walk(linear, access);
        REQUIRE_FALSE(result);
        return result.error();
    }
};

/// Address c0401234: directory entry 0x301, table entry 1.
struct Guest32 : Guest {
    static constexpr std::uint64_t linear = 0xc0401234;
    Guest32() : Guest{PagingMode::bits32} {
        directory(first | all);
        page(0x400000 | all);
    }
    void directory(std::uint64_t value) { set(root, 0x301, static_cast<std::uint32_t>(value)); }
    void page(std::uint64_t value) { set(first, 1, static_cast<std::uint32_t>(value)); }
};

/// The same address: pointer 3, directory entry 2, table entry 1.
struct GuestPae : Guest {
    static constexpr std::uint64_t linear = 0xc0401234;
    GuestPae() : Guest{PagingMode::pae} {
        pointer(second | present);
        directory(first | all);
        page(0x400000 | all);
    }
    void pointer(std::uint64_t value) { set(paging.root, 3, value); }
    void directory(std::uint64_t value) { set(second, 2, value); }
    void page(std::uint64_t value) { set(first, 1, value); }
};

/// Bit 0: reading is allowed; bit 1: writing; bits 2 and 3: the same for user accesses.
unsigned allowed(Guest& guest) {
    unsigned bits = 0;
    for (unsigned i = 0; i < 4; ++i)
        bits |= guest.walk(0xc0401234, {.write = i % 2 == 1, .user = i >= 2}).has_value() ? 1U << i : 0U;
    return bits;
}

} // namespace

TEMPLATE_TEST_CASE("a 4 KiB page is found outside long mode, and its entries are marked", "", Guest32, GuestPae) {
    TestType guest;
    const auto read = guest.walk(guest.linear, {.user = true});
    REQUIRE(read);
    CHECK(*read == iommu::PageMapping{Gpa{0x400234}, 12, true, true, false});
    using Entry = std::conditional_t<std::is_same_v<TestType, Guest32>, std::uint32_t, std::uint64_t>;
    CHECK(guest.template get<Entry>(guest.first, 1) == (0x400000 | all | accessed));
    const auto written = guest.walk(guest.linear, {.write = true});
    REQUIRE(written);
    CHECK(written->dirty);
    CHECK(guest.template get<Entry>(guest.first, 1) == (0x400000 | all | accessed | dirty));
    if constexpr (std::is_same_v<TestType, GuestPae>) {
        CHECK(guest.template get<Entry>(guest.second, 2) == (guest.first | all | accessed));
        CHECK(guest.template get<Entry>(guest.root, 3) == (guest.second | present)); // this level has no accessed bit
    } else {
        CHECK(guest.template get<Entry>(guest.root, 0x301) == (guest.first | all | accessed));
    }
    CHECK(guest.fault(guest.linear + 0x1000) == PageFault{Cause::not_present, 0});
    CHECK(guest.fault(guest.linear + 0x400000, {.write = true, .user = true}) ==
          PageFault{Cause::not_present, PageFault::write | PageFault::user});
    CHECK(guest.fault(0x1'0000'0000 + guest.linear).cause == Cause::non_canonical);
    // A run is one page, because nothing is remembered.
    iommu::PageWalker walker{guest.memory, guest.paging};
    for (int i = 0; i < 2; ++i)
        CHECK(*walker.run(guest.linear, 0x10000, {}) == iommu::PageRun{Gpa{0x400234}, 0x1000 - 0x234});
}

TEMPLATE_TEST_CASE("rights are those of both levels", "", Guest32, GuestPae) {
    TestType guest;
    for (const bool protect : {false, true}) {
        guest.paging.write_protect = protect;
        const unsigned supervisor = protect ? 1U : 3U;
        for (const bool directory : {false, true}) {
            const auto put = [&](std::uint64_t bits) {
                guest.directory(guest.first | (directory ? bits : all));
                guest.page(0x400000 | (directory ? all : bits));
            };
            put(all);
            CHECK(allowed(guest) == 0xf);
            put(present | user);
            CHECK(allowed(guest) == (supervisor | 4));
            put(present | writable);
            CHECK(allowed(guest) == 3);
            put(present);
            CHECK(allowed(guest) == supervisor);
        }
    }
    CHECK(guest.fault(guest.linear, {.write = true, .user = true}) ==
          PageFault{Cause::protection, PageFault::present | PageFault::write | PageFault::user});
    guest.page(0x400000 | all);
    guest.directory(guest.first | all);
    guest.paging.smap = true;
    CHECK(allowed(guest) == 0xc);
    guest.paging.smap = false;
    guest.paging.smep = true;
    CHECK(guest.fault(guest.linear, {.fetch = true}).code == (PageFault::present | PageFault::fetch));
}

TEMPLATE_TEST_CASE("tables outside RAM are faults, also outside long mode", "", Guest32, GuestPae) {
    TestType guest;
    guest.directory(0xfee00000 | all);
    CHECK(guest.fault(guest.linear) == PageFault{Cause::outside_ram, 0});
    guest.paging.root = 0xf0000000;
    CHECK(guest.fault(guest.linear) == PageFault{Cause::outside_ram, 0});
    guest.paging.root = guest.root;
    guest.directory(guest.first | all);
    guest.page(0xfee00000 | all); // a page may be at any address
    CHECK(guest.walk(guest.linear)->address == Gpa{0xfee00234});
}

TEST_CASE("32-bit paging has 4 MiB pages where CR4.PSE is set, with eight more bits of address") {
    Guest32 guest;
    guest.directory(0x00c00000 | all | large);
    // Without PSE the bit is ignored: the entry leads to a table.
    guest.set(0x00c00000, 1, static_cast<std::uint32_t>(0x500000 | all));
    CHECK(guest.walk(guest.linear)->address == Gpa{0x500234});
    guest.paging.four_mib_pages = true;
    const auto page = guest.walk(guest.linear, {.write = true});
    REQUIRE(page);
    CHECK(*page == iommu::PageMapping{Gpa{0x00c01234}, 22, true, true, true});
    CHECK(guest.get<std::uint32_t>(guest.root, 0x301) == (0x00c00000 | all | large | accessed | dirty));
    guest.directory(0x00c00000 | all | large | 0x5aU << 13);
    CHECK(guest.walk(guest.linear)->address == Gpa{0x5a'00c0'1234});
    guest.directory(0x00c00000 | all | large | 1U << 21);
    CHECK(guest.fault(guest.linear) == PageFault{Cause::reserved, PageFault::present | PageFault::reserved_bit});
    guest.paging.physical_bits = 36;
    guest.directory(0x00c00000 | all | large | 0xfU << 13);
    CHECK(guest.walk(guest.linear)->address == Gpa{0xf'00c0'1234});
    guest.directory(0x00c00000 | all | large | 0x10U << 13);
    CHECK(guest.fault(guest.linear).cause == Cause::reserved);
    guest.paging.physical_bits = 52; // this format still has no more than 40
    guest.directory(0x00c00000 | all | large | 0xffU << 13);
    CHECK(guest.walk(guest.linear)->address == Gpa{0xff'00c0'1234});
    // A table's entry has neither reserved bits nor a size: bit 7 is PAT.
    guest.directory(guest.first | all);
    guest.page(0x400000 | all | large);
    CHECK(guest.walk(guest.linear)->page_bits == 12);
}

TEST_CASE("PAE paging has 2 MiB pages, 52 bits of address, execute-disable, and pointers at any 32 bytes") {
    GuestPae guest;
    guest.directory(0xa00000 | all | large);
    CHECK(*guest.walk(guest.linear) == iommu::PageMapping{Gpa{0xa01234}, 21, true, true, false});
    guest.directory(0xa00000 | all | large | 1U << 13);
    CHECK(guest.fault(guest.linear) == PageFault{Cause::reserved, PageFault::present | PageFault::reserved_bit});
    guest.directory(guest.first | all);
    guest.page(0xa0'0040'0000 | all);
    CHECK(guest.walk(guest.linear)->address == Gpa{0xa0'0040'0234});
    for (const unsigned bit : {40U, 51U, 52U, 59U, 62U}) {
        guest.page(0x400000 | all | 1ULL << bit);
        CHECK(guest.fault(guest.linear).cause == Cause::reserved);
    }
    guest.page(0x400000 | all | no_execute);
    CHECK(guest.walk(guest.linear));
    CHECK(guest.fault(guest.linear, {.fetch = true}) ==
          PageFault{Cause::protection, PageFault::present | PageFault::fetch});
    guest.paging.execute_disable = false;
    CHECK(guest.fault(guest.linear).cause == Cause::reserved);
    guest.paging.execute_disable = true;
    guest.page(0x400000 | all);
    guest.paging.root = guest.root + 0x7e0 + 0x18; // the low bits are flags
    guest.set(guest.root + 0x7e0, 3, guest.second | present);
    CHECK(guest.walk(guest.linear)->address == Gpa{0x400234});
    for (const unsigned bit : {1U, 2U, 5U, 8U, 40U, 63U}) {
        guest.set(guest.root + 0x7e0, 3, guest.second | present | 1ULL << bit);
        CHECK(guest.fault(guest.linear).cause == Cause::reserved);
    }
    guest.set(guest.root + 0x7e0, 3, guest.second);
    CHECK(guest.fault(guest.linear) == PageFault{Cause::not_present, 0});
}

} // namespace inox::iommu_page_walk_32_test
