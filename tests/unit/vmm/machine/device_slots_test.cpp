// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/device_slots.hpp"

#include <array>
#include <memory>

#include "tests/catch.hpp"

namespace inox::device_slots_test {

namespace {

using enum SlotState;

/// All events that can happen to a slot, and the way into each state.
struct Slot {
    DeviceSlots slots{};

    explicit Slot(SlotState state) {
        if (state == empty)
            return;
        if (state == promised) {
            slots.promise(3);
            return;
        }
        slots.fill(3, state == permanent);
        if (state == torn_out || state == held)
            slots.tear_out(3, state == held);
        REQUIRE(slots.state(3) == state);
    }
    SlotState filled_with(bool to_stay) { return slots.fill(3, to_stay), slots.state(3); }
    SlotState vacated() { return slots.vacate(3), slots.state(3); }
    SlotState torn(bool driven) { return slots.tear_out(3, driven), slots.state(3); }
    SlotState ejected() {
        REQUIRE(slots.eject(3));
        CHECK(slots.take_ejected() == DeviceSlots::Set{1U << 3});
        return slots.state(3);
    }
};

} // namespace

TEST_CASE("device slots: each state, whatever happens to it") {
    struct Row {
        SlotState from;
        SlotState fill, fill_permanent, vacate, tear_out, tear_out_driven, eject;
    };
    constexpr std::array rows{
        Row{empty, filled, permanent, empty, empty, empty, empty},
        Row{promised, filled, permanent, empty, promised, promised, promised},
        Row{filled, filled, filled, empty, torn_out, held, filled}, // the table vacates it on the loop
        Row{permanent, permanent, permanent, permanent, permanent, permanent, permanent},
        Row{torn_out, filled, permanent, torn_out, torn_out, torn_out, empty},
        Row{held, held, held, held, held, held, empty},
    };
    for (const Row& row : rows) {
        INFO(static_cast<int>(row.from));
        CHECK(Slot{row.from}.filled_with(false) == row.fill);
        CHECK(Slot{row.from}.filled_with(true) == row.fill_permanent);
        CHECK(Slot{row.from}.vacated() == row.vacate);
        CHECK(Slot{row.from}.torn(false) == row.tear_out);
        CHECK(Slot{row.from}.torn(true) == row.tear_out_driven);
        CHECK(Slot{row.from}.ejected() == row.eject);
        Slot again{row.from};
        again.slots.promise(3);
        CHECK(again.slots.state(3) == (row.from == empty || row.from == torn_out ? promised : row.from));
        CHECK(Slot{row.from}.slots.ejectable(3) == (row.from != permanent));
    }
}

TEST_CASE("device slots: a new device gets the slot that is empty for longest, then a torn-out one, never a held one") {
    DeviceSlots slots;
    for (unsigned slot = 0; slot < DeviceSlots::count; ++slot)
        slots.fill(slot, slot < 2);
    CHECK_FALSE(slots.choose());
    CHECK_FALSE(slots.any(held));
    slots.tear_out(9, true);
    CHECK_FALSE(slots.choose());
    CHECK(slots.any(held));
    slots.tear_out(8, false);
    slots.tear_out(7, false);
    CHECK(slots.choose() == 8);
    slots.vacate(6);
    slots.vacate(5);
    CHECK(slots.choose() == 6);
    slots.fill(6, false);
    CHECK(slots.choose() == 5);
    slots.promise(5);
    CHECK(slots.choose() == 8);
    slots.fill(5, false);
    CHECK(slots.eject(9));
    CHECK_FALSE(slots.eject(7)); // the loop was notified already
    CHECK(slots.take_ejected() == DeviceSlots::Set{1U << 9 | 1U << 7});
    CHECK(slots.take_ejected().none());
    CHECK(slots.choose() == 9); // the device of slot 9 left before that of slot 7
    CHECK(slots.eject(7));
}

} // namespace inox::device_slots_test
