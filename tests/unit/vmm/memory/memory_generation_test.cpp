// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/generation.hpp"

#include "tests/catch.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::memory_generation_test {
namespace {

using Id = std::array<std::uint64_t, 2>;

TEST_CASE("a restore is a new generation, and a jump of the clocks; a move is a jump alone") {
    const GuestMemory memory = *GuestMemory::create(2 * MiB, HugePages::none);
    REQUIRE(memory.write(layout::vm_clock, std::uint64_t{0x1234}));
    REQUIRE(start_generation(memory));
    const auto clock = [&] { return memory.read<VmClock>(layout::vm_clock).value(); };
    const auto id = [&] { return memory.read<Id>(layout::generation_id).value(); };
    const auto first = id();
    CHECK(first != Id{});
    CHECK(+clock().magic == 0x4b4c4356);
    CHECK(+clock().size == 0x1000);
    CHECK(+clock().disruption_marker == 0);
    CHECK(+clock().vm_generation_counter == 0);
    REQUIRE(renew_generation(memory));
    const auto second = id();
    CHECK(second != first);
    CHECK(+clock().disruption_marker == 1);
    CHECK(+clock().vm_generation_counter == 1);
    REQUIRE(disrupt_clock(memory));
    CHECK(id() == second);
    CHECK(+clock().disruption_marker == 2);
    CHECK(+clock().vm_generation_counter == 1);
    CHECK(+clock().seq_count == 4);
    CHECK(+clock().magic == 0x4b4c4356);
}

TEST_CASE("a guest that left its clock in the middle of a change finds it whole") {
    const GuestMemory memory = *GuestMemory::create(2 * MiB, HugePages::none);
    REQUIRE(memory.write(layout::vm_clock, VmClock{.seq_count = 7, .vm_generation_counter = UINT64_MAX}));
    REQUIRE(renew_generation(memory));
    const auto clock = memory.read<VmClock>(layout::vm_clock).value();
    CHECK(+clock.seq_count == 8);
    CHECK(+clock.vm_generation_counter == 0);
}

} // namespace
} // namespace inox::memory_generation_test
