// SPDX-License-Identifier: Apache-2.0
#include "devices/acpi_power.hpp"

#include "devices/debug_ports.hpp"
#include "devices/pvpanic.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/fake_guest_events.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/support/registers.hpp"

namespace inox::devices_power_test {

using tests::in;
using tests::out;

namespace {

/// A machine's power registers, with the interrupt of their button.
struct Power {
    fakes::FakeGuestEvents events{};
    fakes::FakeIrqs irqs{};
    devices::AcpiPower registers{events, irqs.line(9, TriggerMode::edge).value()};
};

} // namespace

TEST_CASE("the power button interrupts and is read once for a press") {
    Power machine;
    CHECK(in(machine.registers, 3) == 0);
    CHECK_FALSE(machine.registers.remind());
    machine.registers.press_button();
    machine.registers.press_button();
    CHECK(machine.irqs.lines.at(0)->triggers == 2);
    CHECK(machine.registers.remind());
    CHECK(machine.irqs.lines.at(0)->triggers == 3);
    CHECK(in(machine.registers, 2) == 0);
    CHECK(in(machine.registers, 3) == 1);
    CHECK(in(machine.registers, 3) == 0);
    CHECK_FALSE(machine.registers.remind());
    out(machine.registers, 3, 1);
    CHECK(in(machine.registers, 3) == 0);
}

TEST_CASE("sleep type 5 with the enable bit powers off, and nothing else does") {
    Power machine;
    auto& events = machine.events;
    auto& power = machine.registers;
    for (unsigned value = 0; value < 256; ++value)
        out(power, 0, static_cast<std::uint8_t>(value & ~0x20U));
    out(power, 0, (4 << 2) | 0x20);
    out(power, 1, (5 << 2) | 0x20);
    CHECK(events.power_offs == 0);
    out(power, 0, (5 << 2) | 0x20);
    CHECK(events.power_offs == 1);
    CHECK(in(power, 1) == 0);
}

TEST_CASE("the reset register resets with its value only") {
    Power machine;
    auto& events = machine.events;
    auto& power = machine.registers;
    out(power, 2, 0);
    out(power, 2, 6);
    out(power, 0, 1);
    CHECK(events.resets == 0);
    out(power, 2, 1);
    CHECK(events.resets == 1);
}

TEST_CASE("the exit port takes the low byte of any width") {
    fakes::FakeGuestEvents events;
    devices::DebugPorts ports{events};
    out(ports, 0, 7);
    CHECK(events.exit_code == 7);
    out<std::uint32_t>(ports, 0, 0x7b7b7b2a);
    CHECK(events.exit_code == 42);
    CHECK(events.user_spaces == 0);
    CHECK(in(ports, 0) == 0xff);
}

TEST_CASE("what keeps a guest from its root comes a byte at a time, bounded and without control characters") {
    fakes::FakeGuestEvents events;
    devices::DebugPorts ports{events};
    for (const char c : std::string{"no \x1b[31mdisk\x7f\n"})
        out(ports, 2, static_cast<std::uint8_t>(c));
    for (int i = 0; i < 5000; ++i)
        out(ports, 2, std::uint8_t{'x'});
    CHECK(events.root_failures == std::vector<std::string>{"no [31mdisk"});
    out(ports, 2, std::uint8_t{'\n'});
    CHECK(events.root_failures.back() == std::string(devices::DebugPorts::longest_failure, 'x'));
    CHECK_FALSE(events.exit_code);
}

TEST_CASE("the boot timer knows one value, on either bus") {
    fakes::FakeGuestEvents events;
    devices::DebugPorts ports{events};
    out(ports, 1, 122);
    CHECK(events.user_spaces == 0);
    out(ports, 1, 123);
    CHECK(events.user_spaces == 1);
    devices::BootTimer timer{events};
    out(timer, 0, 123);
    CHECK(events.user_spaces == 2);
    out(timer, 4, 123);
    CHECK(events.user_spaces == 2);
    CHECK_FALSE(events.exit_code);
}

TEST_CASE("a panic is told from a crash kernel that takes over, and other bits are nothing") {
    fakes::FakeGuestEvents events;
    devices::PvPanic pvpanic{events};
    CHECK(in(pvpanic, 0) == 3);
    for (const unsigned none : {0x00U, 0x04U, 0xfcU})
        out(pvpanic, 0, static_cast<std::uint8_t>(none));
    CHECK((events.panics == 0 && events.crash_kernels == 0));
    out(pvpanic, 0, 2);
    CHECK((events.panics == 0 && events.crash_kernels == 1));
    out(pvpanic, 0, 1);
    out(pvpanic, 0, 3);
    CHECK((events.panics == 2 && events.crash_kernels == 1));
}

} // namespace inox::devices_power_test
