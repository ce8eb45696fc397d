// SPDX-License-Identifier: Apache-2.0
#include "tests/catch.hpp"
#include "vmm/memory/guest_memory.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::memory_test {

TEST_CASE("memory beyond the hole goes on at 4 GiB, and an access may not cross its end") {
    const auto memory = GuestMemory::create(layout::hole.start().raw() + 2 * MiB, HugePages::none).value();
    REQUIRE(memory.regions().size() == 2);
    CHECK(memory.regions()[1].range == *Range<Gpa>::sized(layout::ram_above_hole, 2 * MiB));
    CHECK(memory.write(layout::ram_above_hole, std::uint32_t{7}));
    CHECK(memory.read<std::uint32_t>(layout::ram_above_hole) == 7U);
    CHECK(!memory.read<std::uint32_t>(layout::hole.start()));
    CHECK(!memory.write(Gpa{layout::hole.start().raw() - 2}, std::uint32_t{7}));
    CHECK(memory.read<std::uint16_t>(Gpa{layout::hole.start().raw() - 2}) == std::uint16_t{0});
    CHECK(!memory.read<std::uint64_t>(Gpa{~std::uint64_t{0} - 3}));
}

TEST_CASE("a lack of huge pages is found when memory is made, not at the first touch") {
    auto memory = GuestMemory::create(std::uint64_t{128} << 30, HugePages::two_mib); // more than test machines have
    REQUIRE(!memory);
    CHECK(memory.error().code == Errc::memory_unavailable);
    CHECK(memory.error().what.find("huge pages of 2 MiB are not free") != std::string::npos);
    CHECK(memory.error().hint.find("nr_hugepages") != std::string::npos);
}

} // namespace inox::memory_test
