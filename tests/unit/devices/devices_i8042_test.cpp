// SPDX-License-Identifier: Apache-2.0
#include "devices/i8042.hpp"

#include <vector>

#include "tests/catch.hpp"
#include "tests/fakes/fake_guest_events.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/support/registers.hpp"

namespace inox::devices_i8042_test {

namespace {

/// Never waits: if an answer is not there at once, the driver counts it as a time-out.
struct Driver {
    static constexpr std::uint64_t data = 0;
    static constexpr std::uint64_t port_b = 1;
    static constexpr std::uint64_t control = 4;

    std::shared_ptr<fakes::FakeIrqLine::State> irq{std::make_shared<fakes::FakeIrqLine::State>()};
    fakes::FakeGuestEvents events{};
    devices::I8042 chip{std::make_unique<fakes::FakeIrqLine>(irq), events};

    std::uint8_t status() { return tests::in(chip, control); }
    bool full() { return status() & 1; }
    std::uint8_t get() {
        REQUIRE(full());
        return tests::in(chip, data);
    }
    void command(std::uint8_t value) {
        REQUIRE((status() & 2) == 0);
        tests::out(chip, control, value);
    }
    void put(std::uint8_t value) {
        REQUIRE((status() & 2) == 0);
        tests::out(chip, data, value);
    }
    std::uint8_t ask(std::uint8_t value) {
        command(value);
        return get();
    }
    void set_control(std::uint8_t value) {
        command(0x60);
        put(value);
    }
    /// Sends a byte to the keyboard and collects the answer, which has one interrupt for each byte.
    std::vector<std::uint8_t> keyboard(std::uint8_t value) {
        irq->take();
        put(value);
        return interrupts();
    }
    std::vector<std::uint8_t> interrupts() {
        std::vector<std::uint8_t> bytes;
        while (irq->take()) {
            REQUIRE((status() & 0x20) == 0);
            bytes.push_back(get());
        }
        REQUIRE_FALSE(full());
        return bytes;
    }
};
using Bytes = std::vector<std::uint8_t>;

} // namespace

TEST_CASE("Linux's controller probe finds a translating controller without a mouse port at once") {
    Driver driver;
    CHECK_FALSE(driver.full());
    CHECK(driver.ask(0xaa) == 0x55);
    const auto control = driver.ask(0x20);
    CHECK(control == driver.ask(0x20));
    CHECK((control & 0x40) != 0);
    CHECK((driver.status() & 0x10) != 0); // keyboard not locked
    driver.set_control((control | 0x10) & ~0x01);
    CHECK(driver.ask(0x20) == ((control | 0x10) & ~0x01));

    driver.command(0xd3); // aux loop: its answer must not come from an aux port
    driver.put(0x5a);
    CHECK((driver.status() & 0x21) == 0x01);
    driver.get();
    const auto aux = driver.ask(0xa9);
    CHECK((aux != 0 && aux != 0xfa && aux != 0xff));
    CHECK_FALSE(driver.full());
}

TEST_CASE("Linux's keyboard probe gets every answer at once") {
    Driver driver;
    driver.set_control(0x65);
    CHECK(driver.keyboard(0xf2) == Bytes{0xfa, 0xab, 0x41});
    CHECK(driver.keyboard(0xf5) == Bytes{0xfa});
    CHECK(driver.keyboard(0xed) == Bytes{0xfa});
    CHECK(driver.keyboard(0x00) == Bytes{0xfa});
    CHECK(driver.keyboard(0xf3) == Bytes{0xfa});
    CHECK(driver.keyboard(0x20) == Bytes{0xfa});
    CHECK(driver.keyboard(0xf4) == Bytes{0xfa});
    CHECK(driver.keyboard(0xff) == Bytes{0xfa, 0xaa});
    CHECK(driver.keyboard(0xee) == Bytes{0xee});
    CHECK(driver.keyboard(0x12) == Bytes{0xfe});
    CHECK(driver.keyboard(0xfe) == Bytes{0xfe});
}

TEST_CASE("without translation the keyboard speaks scan code set 2") {
    Driver driver;
    driver.set_control(0x25);
    CHECK(driver.keyboard(0xf2) == Bytes{0xfa, 0xab, 0x83});
    CHECK(driver.keyboard(0xf0) == Bytes{0xfa});
    CHECK(driver.keyboard(0x00) == Bytes{0xfa, 0x02});
    CHECK(driver.keyboard(0xf4) == Bytes{0xfa});
    CHECK(driver.chip.send_ctrl_alt_del());
    CHECK(driver.interrupts() == Bytes{0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14});
}

TEST_CASE("ctrl-alt-del reaches a guest that listens, and only such a one") {
    Driver driver;
    CHECK_FALSE(driver.chip.send_ctrl_alt_del());
    driver.keyboard(0xf4);
    CHECK(driver.chip.send_ctrl_alt_del());
    CHECK(driver.interrupts() == Bytes{0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d});
    for (int i = 0; i < 100; ++i)
        driver.chip.send_ctrl_alt_del(); // a guest that does not read makes nothing grow
    CHECK(driver.interrupts().size() == 3 * 8);
    driver.keyboard(0xf5);
    CHECK_FALSE(driver.chip.send_ctrl_alt_del());
}

TEST_CASE("a disabled keyboard holds its bytes back and interrupts only when allowed") {
    Driver driver;
    driver.keyboard(0xf4);
    driver.command(0xad);
    driver.chip.send_ctrl_alt_del();
    CHECK_FALSE(driver.full());
    driver.set_control(0x44);
    driver.irq->take();
    CHECK(driver.full());
    CHECK(driver.get() == 0x1d);
    CHECK(driver.irq->take() == 0);
}

TEST_CASE("each way to pulse the reset line resets") {
    Driver driver;
    driver.command(0xfe);
    CHECK(driver.events.resets == 1);
    driver.command(0xff);
    CHECK(driver.events.resets == 1);
    driver.command(0xd1);
    driver.put(0x02);
    CHECK(driver.events.resets == 2);
    driver.command(0xd1);
    driver.put(0x03);
    CHECK(driver.events.resets == 2);
}

TEST_CASE("loops that watch port B see every bit they wait for") {
    Driver driver;
    tests::out(driver.chip, Driver::port_b, 0xff);
    const auto first = tests::in(driver.chip, Driver::port_b);
    const auto second = tests::in(driver.chip, Driver::port_b);
    CHECK((first ^ second) == 0x30);
    CHECK((first & 0x0f) == 0x0f);
}

TEST_CASE("no sequence of accesses breaks the keyboard controller") {
    Driver driver;
    std::uint32_t random = 1;
    for (int i = 0; i < 200'000; ++i) {
        random = random * 1664525 + 1013904223;
        const auto offset = (random >> 8) % 5;
        switch (random >> 30) {
        case 0:
            tests::in(driver.chip, offset);
            break;
        case 1:
            tests::out<std::uint32_t>(driver.chip, 1, random);
            break;
        default:
            tests::out(driver.chip, offset, static_cast<std::uint8_t>(random >> 16));
        }
    }
    for (int i = 0; i < 300 && driver.full(); ++i)
        driver.get();
    CHECK_FALSE(driver.full());
    driver.put(0);
    driver.set_control(0x65);
    for (int i = 0; i < 100 && driver.full(); ++i)
        driver.get();
    CHECK(driver.keyboard(0xff) == Bytes{0xfa, 0xaa});
}

} // namespace inox::devices_i8042_test
