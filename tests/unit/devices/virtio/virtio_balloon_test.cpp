// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/balloon.hpp"

#include <algorithm>
#include <sys/mman.h>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_balloon_test {

using namespace devices::virtio;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t statistics_bit = feature::bit(1);
constexpr std::uint64_t hinting_bit = feature::bit(3);
constexpr std::uint64_t poison_bit = feature::bit(4);
constexpr std::uint64_t reporting_bit = feature::bit(5);
constexpr std::uint64_t ram_size = 64 * MiB;
constexpr std::uint64_t spare = 32 * MiB; // memory the driver does not use itself

struct Guest {
    EventLoop loop{};
    fakes::VirtioDriver driver;
    std::shared_ptr<Balloon> balloon;

    explicit Guest(const BalloonOptions& options = {}, HugePages pages = HugePages::none)
        : driver{ram_size, pages}, balloon{*Balloon::create(options, loop, driver.ram.memory)} {}
    ~Guest() { balloon->reset(); }
    void start(std::uint64_t features = 0) {
        driver.activate(*balloon, features);
        tests::turn(loop);
    }
    /// Bytes of guest memory that occupy memory of the host.
    std::uint64_t resident() const {
        std::array<unsigned char, ram_size / page_size> pages{};
        REQUIRE(::mincore(driver.ram.memory.regions()[0].host.data(), ram_size, pages.data()) == 0);
        return page_size *
               static_cast<std::uint64_t>(std::ranges::count_if(pages, [](auto page) { return (page & 1) != 0; }));
    }
    void touch(std::uint64_t from, std::uint64_t size) {
        for (std::uint64_t at = from; at < from + size; at += page_size)
            driver.ram.put(at, ~std::uint64_t{0});
    }
    void pages(unsigned queue, const std::vector<std::uint32_t>& list) {
        driver[queue].chain().readable(std::as_bytes(std::span{list})).post();
        balloon->kick(queue);
        CHECK(driver[queue].used()->length == 0);
    }
    void actual(std::uint32_t pages) { balloon->write_config(4, std::as_bytes(std::span{&pages, 1})); }
    std::uint32_t config(std::uint64_t offset) {
        std::array<std::byte, 4> data{};
        balloon->read_config(offset, data);
        return load_le<std::uint32_t>(data);
    }
};

struct Entry {
    Le16 tag;
    Le64 value;
};

} // namespace

TEST_CASE("pages in the balloon go back to the host") {
    Guest guest{{}, GENERATE(HugePages::none, HugePages::transparent)};
    guest.start();
    guest.touch(spare, 8 * MiB);
    const auto before = guest.resident();
    std::vector<std::uint32_t> list;
    for (std::uint32_t i = 0; i < 2048; i += 2) // every other page, backwards
        list.push_back(static_cast<std::uint32_t>((spare >> 12) + 2046 - i));
    guest.pages(0, list);
    CHECK(before - guest.resident() >= 1020 * page_size); // the driver touched a few pages
    CHECK(guest.balloon->released() == 1024 * page_size);
    CHECK(guest.driver.ram.get<std::uint64_t>(spare) == 0);
    CHECK(guest.driver.ram.get<std::uint64_t>(spare + page_size) == ~std::uint64_t{0});
    guest.pages(1, list); // gives the pages back to the guest
    guest.touch(spare, 8 * MiB);
    CHECK(guest.resident() >= before);
}

TEST_CASE("a list of pages may be unordered and name a page twice") {
    Guest guest;
    guest.start();
    guest.touch(spare, MiB);
    const auto page = static_cast<std::uint32_t>(spare >> 12);
    guest.pages(0, {page + 3, page, page + 1, page + 3, page, page + 100});
    CHECK(guest.balloon->released() == 4 * page_size);
    CHECK(guest.balloon->counters().bad_requests == 0);
}

TEST_CASE("pages outside memory and broken lists do no harm") {
    Guest guest;
    guest.start();
    const auto end = static_cast<std::uint32_t>(ram_size >> 12);
    guest.pages(0, {end - 1, end, end + 1, 0xffffffff});
    CHECK(guest.balloon->released() == page_size);
    CHECK(guest.balloon->counters().bad_requests == 2); // two runs
    guest.driver[0].chain().readable("abc").post();
    guest.driver[0].chain().writable(64).post();
    guest.driver[0].chain().raw({spare, 16 << 20, false}).post(); // four million pages
    guest.balloon->kick(0);
    for (int i = 0; i < 3; ++i)
        CHECK(guest.driver[0].used());
    CHECK(guest.driver.notifier.broken == 0);
    CHECK(guest.balloon->counters().bad_requests == 5);
}

TEST_CASE("memory that is pinned stays") {
    Guest guest{{}};
    guest.balloon->pin_memory();
    guest.start();
    guest.touch(spare, MiB);
    guest.pages(0, {static_cast<std::uint32_t>(spare >> 12)});
    CHECK(guest.balloon->released() == 0);
    CHECK(guest.driver.ram.get<std::uint64_t>(spare) == ~std::uint64_t{0});
}

TEST_CASE("the target reaches the guest, and what it did comes back") {
    Guest guest{{.target = 16 * MiB}};
    CHECK(guest.config(0) == 4096);
    guest.start();
    guest.actual(4096);
    CHECK(guest.balloon->actual() == 16 * MiB);
    REQUIRE(guest.balloon->set_target(32 * MiB));
    CHECK(guest.config(0) == 8192);
    CHECK(guest.driver.notifier.config == 1);
    for (const std::uint64_t bad : {ram_size, ram_size + MiB, MiB + 4096, ~std::uint64_t{0}})
        CHECK(guest.balloon->set_target(bad).error().code == Errc::config_value);
    CHECK(guest.balloon->target() == 32 * MiB);
    CHECK(guest.config(~0ULL - 2) == 0);
    guest.balloon->reset();
    CHECK(guest.balloon->actual() == 0);
    CHECK(guest.balloon->target() == 32 * MiB);
}

TEST_CASE("features and queues are those asked for") {
    CHECK(Guest{}.balloon->features() == 0);
    CHECK(Guest{}.balloon->queue_sizes().size() == 2);
    Guest all{
        {.deflate_on_oom = true, .free_page_reporting = true, .free_page_hinting = true, .statistics_interval = 1s}};
    CHECK(all.balloon->features() == 0b111110);
    CHECK(all.balloon->queue_sizes().size() == 5);
    EventLoop loop;
    CHECK_FALSE(Balloon::create({.target = ram_size}, loop, all.driver.ram.memory));
    CHECK_FALSE(Balloon::create({.statistics_interval = -1s}, loop, all.driver.ram.memory));
}

TEST_CASE("statistics come at the interval, and a buffer is asked for once") {
    Guest guest{{.statistics_interval = 1s}};
    guest.start(statistics_bit);
    const std::array<Entry, 4> report{{{4, 1000}, {5, 2000}, {99, 7}, {0, 3}}};
    guest.driver[2].chain().readable(std::as_bytes(std::span{report})).post();
    guest.balloon->kick(2);
    CHECK_FALSE(guest.driver[2].used()); // the device keeps it until it wants the next report
    const auto statistics = *guest.balloon->statistics();
    CHECK(statistics.values[4] == 1000);
    CHECK(statistics.values[5] == 2000);
    CHECK(statistics.values[0] == 3);
    CHECK_FALSE(statistics.values[1]);
    CHECK(std::string{BalloonStatistics::names[4]} == "free_memory");
    REQUIRE(guest.balloon->set_statistics_interval(1s));
    CHECK(tests::run_until(guest.loop, [&] { return guest.driver[2].used().has_value(); }));
    CHECK(guest.driver.notifier.used[2] == 1);
    guest.driver[2].chain().readable("tooshort").post();
    guest.driver[2].chain().writable(20).post();
    guest.balloon->kick(2);
    CHECK(guest.driver[2].used()); // the device keeps one report only
    CHECK_FALSE(guest.balloon->statistics()->values[4]);
    CHECK(guest.balloon->set_statistics_interval(0s).error().code == Errc::wrong_state);
}

TEST_CASE("without statistics, hinting or a driver the accessors say so") {
    Guest guest;
    CHECK(guest.balloon->statistics().error().code == Errc::wrong_state);
    CHECK(guest.balloon->set_statistics_interval(5s).error().code == Errc::wrong_state);
    CHECK(guest.balloon->start_hinting(true).error().code == Errc::wrong_state);
    CHECK(guest.balloon->stop_hinting().error().code == Errc::wrong_state);
    CHECK(guest.balloon->hinting().error().code == Errc::wrong_state);
}

TEST_CASE("free pages that the guest reports go back to the host") {
    Guest guest{{.free_page_reporting = true, .statistics_interval = 1s},
                GENERATE(HugePages::none, HugePages::transparent)};
    guest.start(reporting_bit); // statistics are not negotiated, so reporting is the third queue
    guest.touch(spare, 8 * MiB);
    const auto before = guest.resident();
    guest.driver[2].chain().raw({spare, 4 << 20, true}).raw({spare + (6 << 20), 1 << 20, true}).post(true);
    guest.balloon->kick(2);
    CHECK(guest.driver[2].used());
    CHECK(before - guest.resident() >= 5 * MiB - 4 * page_size);
    guest.driver[2].chain().raw({spare + (5 << 20) + 1, 2 * page_size, true}).post(); // one whole page
    guest.balloon->kick(2);
    CHECK(guest.balloon->released() == 5 * MiB + page_size);
    guest.driver[2].chain().readable("x").post();
    guest.balloon->kick(2);
    CHECK(guest.balloon->counters().bad_requests == 1);
}

TEST_CASE("reported memory goes back a part at a time, whatever pieces it comes in, and all of it goes") {
    const std::uint64_t ram = 512 * MiB;
    struct Large {
        EventLoop loop{};
        fakes::VirtioDriver driver;
        std::shared_ptr<Balloon> balloon;
    } guest{{}, fakes::VirtioDriver{ram}, {}};
    guest.balloon = *Balloon::create({.free_page_reporting = true}, guest.loop, guest.driver.ram.memory);
    guest.driver.activate(*guest.balloon, reporting_bit);
    tests::turn(guest.loop);
    constexpr unsigned queue = 2;
    // 300 MiB, starting at a page that is not the first of a large page.
    guest.driver[queue].chain().raw({32 * MiB + page_size, 200 << 20, true}).raw({300 * MiB, 100 << 20, true}).post();
    guest.balloon->kick(queue);
    CHECK(guest.balloon->released() <= 64 * MiB);
    CHECK_FALSE(guest.driver[queue].used());
    unsigned turns = 0; // turns of the loop, in which it can do other work
    for (; turns < 100 && !guest.driver[queue].used(); ++turns)
        tests::turn(guest.loop);
    CHECK(turns >= 2);
    CHECK(turns < 100);
    CHECK(guest.balloon->released() == 300 * MiB);
    // The next request starts from its beginning.
    guest.driver[queue].chain().raw({32 * MiB, 1 << 20, true}).post();
    guest.balloon->kick(queue);
    CHECK(guest.driver[queue].used());
    CHECK(guest.balloon->released() == 301 * MiB);
    guest.balloon->reset();
}

TEST_CASE("reported pages that must keep a poison value stay") {
    Guest guest{{.free_page_reporting = true}};
    guest.start(reporting_bit | poison_bit);
    const std::uint32_t poison = 0xaaaaaaaa;
    guest.balloon->write_config(12, std::as_bytes(std::span{&poison, 1}));
    guest.touch(spare, MiB);
    guest.driver[2].chain().raw({spare, 1 << 20, true}).post();
    guest.balloon->kick(2);
    CHECK(guest.driver[2].used());
    CHECK(guest.balloon->released() == 0);
}

TEST_CASE("hinted pages go back only during the run they belong to") {
    Guest guest{{.free_page_hinting = true}};
    guest.start(hinting_bit);
    guest.touch(spare, 8 * MiB);
    auto say = [&](std::uint32_t command) { guest.pages(2, {command}); };
    auto hint = [&](std::uint64_t from) {
        guest.driver[2].chain().raw({from, 1 << 20, true}).post();
        guest.balloon->kick(2);
        CHECK(guest.driver[2].used());
        return guest.balloon->released();
    };
    CHECK_FALSE(guest.balloon->hinting()->guest_command);
    CHECK(hint(spare) == 0);
    REQUIRE(guest.balloon->start_hinting(true));
    const std::uint32_t run = guest.config(8);
    CHECK(run >= 2);
    CHECK(guest.driver.notifier.config == 1);
    CHECK(hint(spare) == 0); // not before the guest has answered
    say(run);
    CHECK(guest.balloon->hinting()->guest_command == run);
    CHECK(hint(spare) == MiB);
    say(0); // the guest has named all pages, and is acknowledged
    CHECK(guest.config(8) == 1);
    CHECK(hint(spare + MiB) == MiB);
    REQUIRE(guest.balloon->start_hinting(false));
    CHECK(guest.config(8) == run + 1);
    say(run); // an old command
    CHECK(hint(spare + MiB) == MiB);
    say(run + 1);
    CHECK(hint(spare + MiB) == 2 * MiB);
    say(0);
    CHECK(guest.config(8) == run + 1);
    REQUIRE(guest.balloon->stop_hinting());
    CHECK(guest.config(8) == 1);
    guest.driver[2].chain().readable("ab").post();
    guest.balloon->kick(2);
    CHECK(guest.balloon->counters().bad_requests == 1);
}

TEST_CASE("drivers come and go on another thread while the target changes") {
    Guest guest{{.free_page_hinting = true, .statistics_interval = 1s}};
    std::thread runner{[&] { guest.loop.run(); }};
    for (int round = 0; round < 50; ++round) {
        guest.driver.prepare(*guest.balloon, statistics_bit | hinting_bit);
        const std::vector<std::uint32_t> list{100, 101, 200};
        guest.driver[0].chain().readable(std::as_bytes(std::span{list})).post();
        guest.driver[2].chain().readable("0123456789").post();
        guest.driver.start(*guest.balloon);
        guest.actual(3);
        guest.loop.call([&] { return guest.balloon->set_target((round % 2 == 0 ? 1 : 2) * MiB).has_value(); });
        guest.loop.call([&] { return guest.balloon->start_hinting(true).has_value(); });
        guest.balloon->reset();
    }
    guest.loop.stop();
    runner.join();
}

} // namespace inox::virtio_balloon_test
