// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/console.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_console_test {

using namespace devices::virtio;
using namespace std::chrono_literals;

namespace {

struct Guest {
    EventLoop loop{};
    fakes::VirtioDriver driver{};
    std::string shown{};
    std::size_t room{1 << 30};
    unsigned room_calls{0};
    std::shared_ptr<Console> console;

    explicit Guest(TerminalSize size = {80, 25})
        : console{*Console::create({.size = size}, loop, [this](std::span<const std::byte> bytes) {
              const auto taken = std::min(bytes.size(), room);
              shown.append(reinterpret_cast<const char*>(bytes.data()), taken);
              room -= taken;
              return taken;
          })} {
        console->on_input_room([this] { ++room_calls; });
    }
    ~Guest() { console->reset(); }
    void start(std::uint64_t features = 1) {
        driver.activate(*console, features);
        tests::turn(loop);
    }
    std::size_t type(std::string_view text) { return console->receive(std::as_bytes(std::span{text})); }
};

} // namespace

TEST_CASE("output arrives in order, whatever pieces it comes in") {
    Guest guest;
    guest.start();
    guest.driver[1].chain().readable("one ").readable("two ").post();
    guest.driver[1].chain().readable("three").post(true);
    guest.console->kick(1);
    CHECK(guest.shown == "one two three");
    CHECK(guest.driver[1].used()->length == 0);
    CHECK(guest.driver[1].used());
    CHECK(guest.driver.notifier.used[1] == 1);
}

TEST_CASE("output that is not taken waits, loses nothing and repeats nothing") {
    Guest guest;
    guest.start();
    guest.room = 6;
    guest.driver[1].chain().readable("one ").readable("two ").post();
    guest.driver[1].chain().readable("three").post();
    guest.console->kick(1);
    CHECK(guest.shown == "one tw");
    CHECK_FALSE(guest.driver[1].used());
    guest.console->kick(1);
    CHECK(guest.shown == "one tw");
    CHECK(tests::busy_for(guest.loop, 20ms) < 10ms);
    guest.room = 4;
    guest.console->on_output_room();
    CHECK(guest.shown == "one two th");
    CHECK(guest.driver[1].used());
    guest.room = 100;
    guest.console->on_output_room();
    CHECK(guest.shown == "one two three");
    CHECK(guest.driver[1].used());
}

TEST_CASE("endless output leaves the loop free for others") {
    Guest guest;
    guest.start();
    guest.driver[1].chain().raw({0x200000, 8 << 20, false}).post();
    guest.console->kick(1);
    CHECK(guest.shown.size() == 64 * 1024);
    CHECK(tests::run_until(guest.loop, [&] { return guest.driver[1].used().has_value(); }));
    CHECK(guest.shown.size() == 8 << 20);
}

TEST_CASE("input fills the driver's buffers, and the rest waits for more of them") {
    Guest guest;
    guest.start();
    const auto first = guest.driver[0].chain().writable(4).post().front().address;
    const auto second = guest.driver[0].chain().writable(4).post().front().address;
    CHECK(guest.type("hello guest") == 8);
    CHECK(guest.driver.ram.text(first, 4) + guest.driver.ram.text(second, 4) == "hello gu");
    CHECK(guest.driver[0].used()->length == 4);
    CHECK(guest.driver.notifier.used[0] == 1);
    CHECK(guest.type("est") == 0);
    tests::turn(guest.loop);
    CHECK(guest.room_calls == 0);
    guest.driver[0].chain().writable(100).post();
    guest.console->kick(0);
    tests::turn(guest.loop);
    CHECK(guest.room_calls == 1);
    CHECK(guest.type("est") == 3);
    guest.console->kick(0);
    tests::turn(guest.loop);
    CHECK(guest.room_calls == 1);
}

TEST_CASE("input before a driver is there waits for it") {
    Guest guest;
    CHECK(guest.type("early") == 0);
    guest.start();
    tests::turn(guest.loop);
    CHECK(guest.room_calls == 1);
}

TEST_CASE("a new size of the terminal reaches the driver") {
    Guest guest{{132, 43}};
    guest.start();
    std::array<std::byte, 16> config{};
    guest.console->read_config(0, config);
    CHECK(load_le<std::uint16_t>(config) == 132);
    CHECK(load_le<std::uint16_t>(std::span{config}.subspan(2)) == 43);
    CHECK(load_le<std::uint32_t>(std::span{config}.subspan(4)) == 1);
    guest.console->resize({100, 50});
    CHECK(guest.driver.notifier.config == 1);
    std::array<std::byte, 2> rows{};
    guest.console->read_config(2, rows);
    CHECK(load_le(rows) == 50);
    guest.console->reset();
    guest.start(0); // a driver that did not negotiate sizes
    guest.console->resize({80, 25});
    CHECK(guest.driver.notifier.config == 1);
    guest.console->read_config(~std::uint64_t{0}, config);
    CHECK(config[0] == std::byte{0});
}

TEST_CASE("buffers of the wrong direction do no harm") {
    Guest guest;
    guest.start();
    guest.driver[1].chain().writable(8).post();
    guest.console->kick(1);
    CHECK(guest.driver[1].used());
    CHECK(guest.console->counters().bad_requests == 1);
    guest.driver[0].chain().readable("x").post();
    CHECK(guest.type("y") == 0);
    CHECK(guest.driver.notifier.broken == 1);
    CHECK(guest.type("z") == 0);
    guest.console->reset();
    guest.start();
    guest.driver[0].chain().writable(8).post();
    CHECK(guest.type("z") == 1);
}

} // namespace inox::virtio_console_test
