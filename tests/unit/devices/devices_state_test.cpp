// SPDX-License-Identifier: Apache-2.0
// The platform's devices between a save and a restore: nothing is lost that a driver could wait for.
#include "devices/acpi_power.hpp"
#include "devices/cmos.hpp"
#include "devices/debug_ports.hpp"
#include "devices/i8042.hpp"
#include "devices/pci/hotplug.hpp"
#include "devices/rate_limiter.hpp"
#include "devices/serial.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/fake_guest_events.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/support/registers.hpp"
#include "tests/support/state.hpp"

namespace inox::devices_state_test {

using namespace std::chrono_literals;
using nlohmann::json;
using tests::in;
using tests::out;

namespace {

using Line = std::shared_ptr<fakes::FakeIrqLine::State>;

/// One device with its interrupt.
template <class D> struct Chip {
    template <class... A> explicit Chip(A&&... more)
        : device{std::make_unique<fakes::FakeIrqLine>(irq), std::forward<A>(more)...} {}
    Line irq{std::make_shared<fakes::FakeIrqLine::State>()};
    D device;
};

struct Uart : Chip<devices::Serial> {
    Uart()
        : Chip{[this](std::span<const std::byte> bytes) {
              for (const auto byte : bytes)
                  sent.push_back(static_cast<char>(byte));
          }} {}
    std::size_t receive(std::string_view text) { return device.receive(std::as_bytes(std::span{text})); }
    std::string sent{};
};

/// Restores it into `fresh`, which is then the same.
template <class D> void move_to(Stateful& from, D& fresh) {
    const auto saved = tests::save(from);
    REQUIRE(tests::restore(fresh, saved));
    CHECK(tests::save(fresh) == saved);
}

/// No damage does harm; `touch` uses what came of it.
template <class F> void damage(const json& saved, F&& restore_and_touch) {
    std::size_t refused = 0;
    tests::for_each_damage(saved, [&](const json& damaged, bool must_fail) {
        const bool taken = restore_and_touch(damaged);
        CHECK_FALSE((taken && must_fail));
        refused += taken ? 0 : 1;
    });
    CHECK(refused > 0);
}

} // namespace

TEST_CASE("a restored serial port goes on with its FIFO, and interrupts a driver that sends") {
    Uart old;
    out(old.device, 2, 0x81); // FIFO on, 8 bytes until an interrupt
    out(old.device, 3, 0x03);
    out(old.device, 4, 0x0b);
    out(old.device, 1, 0x03); // received, transmitter empty
    CHECK(old.receive("input") == 5);
    CHECK(in(old.device, 0) == 'i');
    (void)in(old.device, 2);
    out(old.device, 0, 'x');

    Uart fresh;
    move_to(old.device, fresh.device);
    CHECK(fresh.irq->take() == 0);
    fresh.device.resume();
    CHECK(fresh.irq->take() == 1);
    std::string rest;
    while ((in(fresh.device, 5) & 1) != 0)
        rest.push_back(static_cast<char>(in(fresh.device, 0)));
    CHECK(rest == "nput");
    CHECK((in(fresh.device, 2) & 0x0f) == 2); // the transmitter is empty
    CHECK(in(fresh.device, 1) == 3);
    out(fresh.device, 0, 'y');
    CHECK(fresh.sent == "y");
    CHECK(fresh.irq->take() == 1);
    CHECK(old.sent == "x");
}

TEST_CASE("input that a guest has not opened its port for is held over a restore") {
    Uart old;
    out(old.device, 2, 0x01);
    CHECK(old.receive("typed early") == 11);
    out(old.device, 2, 0x07); // the driver looks for the chip
    Uart fresh;
    move_to(old.device, fresh.device);
    out(fresh.device, 4, 0x0b);
    out(fresh.device, 1, 0x01);
    CHECK(in(fresh.device, 0) == 't');
}

TEST_CASE("damage to a serial port's state does no harm") {
    Uart old;
    out(old.device, 2, 0x01);
    CHECK(old.receive("some") == 4);
    damage(tests::save(old.device), [](const json& damaged) {
        Uart fresh;
        if (!tests::restore(fresh.device, damaged))
            return false;
        fresh.device.resume();
        out(fresh.device, 2, 0x07);
        (void)fresh.receive("and more than there is room for");
        out(fresh.device, 1, 0x0f);
        while ((in(fresh.device, 5) & 1) != 0)
            (void)in(fresh.device, 0);
        return true;
    });
    auto full = tests::save(old.device);
    full["held_count"] = 14U;
    Uart fresh;
    CHECK_FALSE(tests::restore(fresh.device, full)); // more than a FIFO of input in both
}

TEST_CASE("a restored keyboard controller finishes the command that was under way") {
    fakes::FakeGuestEvents events;
    Chip<devices::I8042> old{events};
    out(old.device, 0, 0xf4);
    (void)in(old.device, 0);
    CHECK(old.device.send_ctrl_alt_del());
    out(old.device, 4, 0x60); // a new command byte comes next
    Chip<devices::I8042> fresh{events};
    move_to(old.device, fresh.device);
    fresh.device.resume();
    CHECK(fresh.irq->take() == 1); // a byte waits
    out(fresh.device, 0, 0x45);
    std::vector<std::uint8_t> keys;
    while ((in(fresh.device, 4) & 1) != 0)
        keys.push_back(in(fresh.device, 0));
    CHECK(keys == std::vector<std::uint8_t>{0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d});
    out(fresh.device, 4, 0x20);
    CHECK(in(fresh.device, 0) == 0x45);
    damage(tests::save(old.device), [&](const json& damaged) {
        Chip<devices::I8042> other{events};
        if (!tests::restore(other.device, damaged))
            return false;
        other.device.resume();
        for (unsigned value = 0; value < 256; ++value)
            out(other.device, value & 4, static_cast<std::uint8_t>(value | 1));
        (void)other.device.send_ctrl_alt_del();
        return true;
    });
}

TEST_CASE("CMOS memory and the selected register survive, the clock is the host's") {
    devices::Cmos old{64 * MiB, 0};
    out(old, 0, 0x40);
    out(old, 1, 0x77);
    devices::Cmos fresh{64 * MiB, 0, [] { return timespec{1'700'000'000, 0}; }};
    move_to(old, fresh);
    CHECK(in(fresh, 1) == 0x77);
    out(fresh, 0, 0x09);
    CHECK(in(fresh, 1) == 0x23);
    damage(tests::save(old), [](const json& damaged) {
        devices::Cmos other{64 * MiB, 0};
        if (!tests::restore(other, damaged))
            return false;
        out(other, 1, 1);
        (void)in(other, 1);
        return true;
    });
}

TEST_CASE("a press of the button and a new generation that the guest has not seen are told again") {
    fakes::FakeGuestEvents events;
    fakes::FakeIrqs irqs;
    devices::AcpiPower old{events, irqs.line(9, TriggerMode::edge).value()};
    old.press_button();
    old.tell_new_time(true);
    devices::AcpiPower fresh{events, irqs.line(9, TriggerMode::edge).value()};
    move_to(old, fresh);
    CHECK(irqs.lines.back()->take() == 0);
    fresh.resume();
    CHECK(irqs.lines.back()->take() == 1);
    CHECK(in(fresh, 3) == 7);
    fresh.resume();
    CHECK(irqs.lines.back()->take() == 0);
    auto wrong = tests::save(old);
    wrong["untold"] = 8U;
    CHECK_FALSE(tests::restore(fresh, wrong));
}

TEST_CASE("slots that the guest has not looked at yet are told again") {
    fakes::FakeIrqs irqs;
    devices::pci::HotplugRegisters old{irqs.line(9, TriggerMode::edge).value(), [](unsigned) {}};
    old.announce(4);
    old.ask_back(6);
    devices::pci::HotplugRegisters fresh{irqs.line(9, TriggerMode::edge).value(), [](unsigned) {}};
    move_to(old, fresh);
    fresh.resume();
    CHECK(irqs.lines.back()->take() == 1);
    CHECK(in<std::uint32_t>(fresh, 0) == 0x10);
    CHECK(in<std::uint32_t>(fresh, 4) == 0x40);
    auto wrong = tests::save(old);
    wrong["wanted"] = 0x10U;
    CHECK_FALSE(tests::restore(fresh, wrong));
}

TEST_CASE("half a line of what keeps a guest from its root goes on, without control characters") {
    fakes::FakeGuestEvents events;
    devices::DebugPorts old{events};
    for (const char c : std::string{"no di"})
        out(old, 2, static_cast<std::uint8_t>(c));
    devices::DebugPorts fresh{events};
    move_to(old, fresh);
    for (const char c : std::string{"sk\n"})
        out(fresh, 2, static_cast<std::uint8_t>(c));
    CHECK(events.root_failures == std::vector<std::string>{"no disk"});
    auto wrong = tests::save(old);
    wrong["failure"] = "\x1b[31m";
    CHECK_FALSE(tests::restore(fresh, wrong));
    wrong["failure"] = std::string(401, 'x');
    CHECK_FALSE(tests::restore(fresh, wrong));
}

TEST_CASE("a rate limit is restored with what is left, and never with more than its configuration allows") {
    using devices::RateLimiter;
    using Time = RateLimiter::Time;
    const auto later = [](RateLimiter& limiter, Time now) {
        State state;
        limiter.state(state, now);
        return state.take();
    };
    const auto restore = [](RateLimiter& limiter, json value, Time now) {
        State state{std::move(value), "limits"};
        limiter.state(state, now);
        return state.result().has_value();
    };
    const Time start{};
    const devices::RateLimits limits{.bandwidth = {{.size = 1000, .one_time_burst = 500, .refill_time = 1000ms}}};
    RateLimiter old{limits, start};
    CHECK(old.spend(1400, start) == 0ns); // 600 are left after the burst and 900 of the bucket: 100
    const auto saved = later(old, start);
    RateLimiter fresh{limits, start + 1h};
    REQUIRE(restore(fresh, saved, start + 1h));
    CHECK(later(fresh, start + 1h) == saved);
    CHECK(fresh.spend(100, start + 1h) == 0ns);
    CHECK(fresh.spend(100, start + 1h) == 100ms);

    auto rich = saved;
    rich["bandwidth"]["burst"] = ~std::uint64_t{0};
    rich["bandwidth"]["filled_ns"] = std::int64_t{INT64_MAX};
    RateLimiter bounded{limits, start};
    REQUIRE(restore(bounded, rich, start));
    CHECK(bounded.spend(1500, start) == 0ns);
    CHECK(bounded.spend(1, start) != 0ns);
    auto poor = saved;
    poor["bandwidth"]["filled_ns"] = std::int64_t{INT64_MIN};
    CHECK_FALSE(restore(bounded, poor, start));
    RateLimiter none;
    CHECK(restore(none, saved, start));
    CHECK(none.unlimited());
    RateLimiter other{limits, start};
    CHECK(restore(other, later(none, start), start));
    CHECK(other.spend(1500, start) == 0ns);
}

} // namespace inox::devices_state_test
