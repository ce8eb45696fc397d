// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/address_map.hpp"

#include "tests/catch.hpp"

namespace inox::memory_address_map_test {

namespace {

constexpr std::uint64_t TiB = 1024 * GiB;

Range<Gpa> range(std::uint64_t start, std::uint64_t end) { return *Range<Gpa>::closed(Gpa{start}, Gpa{end - 1}); }

} // namespace

TEST_CASE("the 64-bit window reaches from 256 GiB to the end of what the CPU addresses") {
    CHECK(plan_addresses(1 * GiB, 40, {})->bars_64 == range(256 * GiB, 1 * TiB));
    CHECK(plan_addresses(1 * GiB, 46, {})->bars_64 == range(256 * GiB, 64 * TiB));
    CHECK(plan_addresses(200 * GiB, 48, {})->bars_64 == range(256 * GiB, 256 * TiB));
    CHECK(plan_addresses(1 * GiB, 40, {})->bars_32 == layout::pci_bars_32);
    CHECK(plan_addresses(1 * GiB, 40, {})->hole == layout::hole.start());
}

TEST_CASE("on a CPU with few address bits it begins at a quarter, and there is none where RAM leaves no room") {
    CHECK(plan_addresses(1 * GiB, 39, {})->bars_64 == range(128 * GiB, 512 * GiB));
    CHECK(plan_addresses(1 * GiB, 36, {})->bars_64 == range(16 * GiB, 64 * GiB));
    CHECK(plan_addresses(30 * GiB, 36, {})->bars_64 == range(31 * GiB, 64 * GiB));
    CHECK_FALSE(plan_addresses(63 * GiB, 36, {})->bars_64);
    const auto refused = plan_addresses(64 * GiB, 36, {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::memory_invalid);
    CHECK(refused.error().what.find("36 address bits") != std::string::npos);
}

TEST_CASE("much RAM moves the window up") {
    CHECK(plan_addresses(1 * TiB + 2 * MiB, 46, {})->bars_64 == range(1 * TiB + 2 * GiB, 64 * TiB));
    CHECK(plan_addresses(layout::max_ram, 46, {})->bars_64 == range(layout::max_ram + 1 * GiB, 64 * TiB));
}

TEST_CASE("windows of a wanted size are as large, and refused where they do not fit") {
    CHECK(plan_addresses(1 * GiB, 46, {.bars_64 = 2 * TiB})->bars_64 == range(256 * GiB, 256 * GiB + 2 * TiB));
    CHECK(plan_addresses(1 * GiB, 39, {.bars_64 = 400 * GiB})->bars_64 == range(4 * GiB, 404 * GiB));
    const auto refused = plan_addresses(1 * GiB, 39, {.bars_64 = 512 * GiB});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::no_resource);
    CHECK(plan_addresses(1 * GiB, 39, {.bars_32 = 64 * MiB})->bars_32 == range(0xc2000000, 0xc6000000));
    CHECK(plan_addresses(1 * GiB, 39, {.bars_32 = 64 * MiB})->hole == layout::hole.start());
}

TEST_CASE("a large 32-bit window takes the place of RAM, which goes on above 4 GiB") {
    const auto map = plan_addresses(4 * GiB, 39, {.bars_32 = 1 * GiB});
    REQUIRE(map);
    CHECK(map->bars_32 == range(0x80000000, 0xc0000000));
    CHECK(map->hole == Gpa{0x80000000});
    // 2 GiB below the hole and 2 GiB from 4 GiB on: RAM ends at 6 GiB, and 33 bits end at 8 GiB.
    CHECK(plan_addresses(4 * GiB, 33, {.bars_32 = 1 * GiB})->bars_64 == range(6 * GiB, 8 * GiB));
    CHECK(plan_addresses(1 * GiB, 39, {.bars_32 = PciWindows::most_32})->bars_32 == range(0x40000000, 0xc0000000));
}

TEST_CASE("address bits are what the host's tables for guests reach") {
    CHECK(usable_address_bits(0) == 36);
    CHECK(usable_address_bits(0x3028) == 40);
    CHECK(usable_address_bits(0x3934) == 48);
    CHECK(usable_address_bits(0x303934) == 48);
    CHECK(usable_address_bits(0x343934) == 52);
    CHECK(host_address_bits() >= 32);
    CHECK(host_address_bits() == usable_address_bits(host_address_leaf()));
}

} // namespace inox::memory_address_map_test
