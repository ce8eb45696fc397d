// SPDX-License-Identifier: Apache-2.0
// Balloon, console and entropy over a save and a restore.
#include "devices/virtio/balloon.hpp"
#include "devices/virtio/console.hpp"
#include "devices/virtio/entropy.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/run_loop.hpp"
#include "tests/support/state.hpp"

namespace inox::virtio_small_state_test {

using namespace devices::virtio;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t statistics = feature::bit(1);
constexpr std::uint64_t hinting = feature::bit(3);

struct Ballooned {
    EventLoop loop{};
    fakes::VirtioDriver driver{64 * MiB};
    std::shared_ptr<Balloon> make() {
        return Balloon::create({.free_page_hinting = true, .statistics_interval = 1s}, loop, driver.ram.memory).value();
    }
    std::shared_ptr<Balloon> balloon{make()};
    ~Ballooned() { balloon->reset(); }

    void report(std::uint64_t value) {
        std::array<std::byte, 10> entry{};
        store_le(std::span{entry}.first(2), 4); // free memory
        store_le(std::span{entry}.subspan(2), value);
        driver[2].chain().readable(entry).post();
        balloon->kick(2);
    }
    std::uint32_t config(std::uint64_t offset) {
        std::array<std::byte, 4> data{};
        balloon->read_config(offset, data);
        return load_le<std::uint32_t>(data);
    }
};

} // namespace

TEST_CASE("a balloon that comes to rest gives the report's buffer back, and its statistics go on") {
    Ballooned guest;
    REQUIRE(guest.balloon->set_target(8 * MiB));
    guest.driver.activate(*guest.balloon, statistics | hinting);
    tests::turn(guest.loop);
    const std::uint32_t actual = 512;
    guest.balloon->write_config(4, std::as_bytes(std::span{&actual, 1}));
    guest.report(4711);
    CHECK_FALSE(guest.driver[2].used());
    REQUIRE(guest.balloon->start_hinting(true));
    REQUIRE(guest.balloon->drain());
    CHECK(guest.driver[2].used());
    REQUIRE(guest.balloon->drain());
    CHECK_FALSE(guest.driver[2].used());

    const auto saved = tests::save(*guest.balloon);
    auto fresh = guest.make();
    REQUIRE(tests::replace(guest.driver, *fresh, saved));
    guest.balloon = fresh;
    CHECK(fresh->target() == 8 * MiB);
    CHECK(fresh->actual() == 2 * MiB);
    CHECK(fresh->statistics()->values[4] == 4711);
    CHECK(guest.config(8) == 1); // hinting is done: what was hinted is in use again
    const auto told = guest.driver.notifier.config.load();
    fresh->resume();
    CHECK(guest.driver.notifier.config == told + 1);
    guest.report(4712);
    CHECK(fresh->statistics()->values[4] == 4712);
    CHECK(tests::run_until(guest.loop, [&] { return guest.driver[2].used().has_value(); })); // the next interval
    REQUIRE(fresh->start_hinting(true));
    CHECK(guest.config(8) == 3); // a number that was not used yet
}

TEST_CASE("a balloon larger than the guest's memory, or without statistics here, is refused") {
    Ballooned guest;
    guest.driver.activate(*guest.balloon, statistics);
    REQUIRE(guest.balloon->drain());
    auto saved = tests::save(*guest.balloon);
    saved["target_pages"] = 64 * MiB / page_size + 1;
    auto fresh = guest.make();
    CHECK_FALSE(tests::replace(guest.driver, *fresh, saved));
    auto plain = Balloon::create({}, guest.loop, guest.driver.ram.memory).value();
    CHECK_FALSE(tests::replace(guest.driver, *plain, tests::save(*guest.balloon)));
    fresh->reset();
    plain->reset();
}

TEST_CASE("a console goes on with output that was taken in part, and tells its size again") {
    EventLoop loop;
    fakes::VirtioDriver driver;
    std::string shown;
    std::size_t room = 3;
    const auto make = [&](TerminalSize size) {
        return Console::create({.size = size}, loop,
                               [&](std::span<const std::byte> bytes) {
                                   const auto taken = std::min(bytes.size(), room);
                                   for (const auto byte : bytes.first(taken))
                                       shown.push_back(static_cast<char>(byte));
                                   room -= taken;
                                   return taken;
                               })
            .value();
    };
    auto old = make({80, 25});
    driver.activate(*old, 1);
    tests::turn(loop);
    driver[0].chain().writable(16).post();
    old->kick(0);
    driver[1].chain().readable("one two").post();
    old->kick(1);
    CHECK(shown == "one");
    REQUIRE(old->drain());
    room = 100;
    old->on_output_room();
    CHECK(shown == "one");
    CHECK(old->receive(std::as_bytes(std::span{"x", 1})) == 0);
    const auto saved = tests::save(*old);
    auto fresh = make({132, 50});
    REQUIRE(tests::replace(driver, *fresh, saved));
    CHECK(tests::save(*fresh) == saved);
    const auto told = driver.notifier.config.load();
    fresh->resume();
    CHECK(shown == "one two");
    CHECK(driver.notifier.config == told + 1);
    CHECK(driver[1].used());
    CHECK(fresh->receive(std::as_bytes(std::span{"x", 1})) == 1);
    CHECK(driver[0].used());
    fresh->reset();
    old->reset();
}

TEST_CASE("input that a console's guest had no room for is offered again after a restore") {
    EventLoop loop;
    fakes::VirtioDriver driver;
    const auto all = [](std::span<const std::byte> bytes) { return bytes.size(); };
    auto old = Console::create({}, loop, all).value();
    driver.activate(*old, 1);
    REQUIRE(old->drain());
    auto fresh = Console::create({}, loop, all).value();
    unsigned offers = 0;
    fresh->on_input_room([&] { ++offers; });
    CHECK(fresh->receive(std::as_bytes(std::span{"x", 1})) == 0); // too early
    REQUIRE(tests::replace(driver, *fresh, tests::save(*old)));
    fresh->resume();
    tests::turn(loop);
    CHECK(offers == 1);
    fresh->reset();
    old->reset();
}

TEST_CASE("random bytes that were asked for come from the new host") {
    EventLoop loop;
    fakes::VirtioDriver driver;
    auto old = Entropy::create({}, loop).value();
    driver.activate(*old, 0);
    REQUIRE(old->drain());
    const auto pieces = driver[0].chain().writable(64).post();
    old->kick(0);
    auto fresh = Entropy::create({}, loop).value();
    REQUIRE(tests::replace(driver, *fresh, tests::save(*old)));
    CHECK_FALSE(driver[0].used());
    fresh->resume();
    const auto used = driver[0].used();
    REQUIRE(used);
    CHECK(used->length == 64);
    CHECK(fresh->bytes_given() == 64);
    fresh->reset();
    old->reset();
}

TEST_CASE("damage to the states of balloon, console and entropy does no harm") {
    const tests::LogCapture log;
    Ballooned guest;
    guest.driver.activate(*guest.balloon, statistics | hinting);
    guest.report(4711);
    REQUIRE(guest.balloon->drain());
    tests::for_each_damage(tests::save(*guest.balloon), [&](const auto& damaged, bool must_fail) {
        auto fresh = guest.make();
        const bool taken = tests::replace(guest.driver, *fresh, damaged).has_value();
        CHECK_FALSE((taken && must_fail));
        if (taken) {
            fresh->resume();
            (void)fresh->start_hinting(true);
            CHECK(fresh->drain());
        }
        fresh->reset();
    });

    EventLoop loop;
    fakes::VirtioDriver driver;
    const auto console = [&] {
        return Console::create({}, loop, [](std::span<const std::byte> bytes) { return bytes.size(); }).value();
    };
    auto old = console();
    driver.activate(*old, 1);
    REQUIRE(old->drain());
    driver[1].chain().readable("output").post();
    tests::for_each_damage(tests::save(*old), [&](const auto& damaged, bool must_fail) {
        auto fresh = console();
        const bool taken = tests::replace(driver, *fresh, damaged).has_value();
        CHECK_FALSE((taken && must_fail));
        fresh->resume();
        tests::turn(loop);
        fresh->reset();
    });
    old->reset();
}

} // namespace inox::virtio_small_state_test
