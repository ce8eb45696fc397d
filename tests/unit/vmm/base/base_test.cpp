// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <set>

#include "tests/catch.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/base/range.hpp"

namespace inox::base_test {

TEST_CASE("a range can end at the last byte of the space and cannot wrap") {
    constexpr std::uint64_t top = ~std::uint64_t{0};
    CHECK(Range<Iova>::sized(Iova{top}, 1)->last() == Iova{top});
    CHECK_FALSE(Range<Iova>::sized(Iova{top}, 2));
    CHECK_FALSE(Range<Iova>::sized(Iova{0}, 0));
    CHECK_FALSE(Range<Iova>::closed(Iova{2}, Iova{1}));
    CHECK(Range<Iova>::full().size_minus_one() == top);
    CHECK(Range<Iova>::full().contains(Iova{top}));
    static_assert(!std::is_constructible_v<Iova, Gpa>);
}

TEST_CASE("a range map refuses overlaps and finds only whole accesses") {
    RangeMap<Gpa, int> map;
    auto range = [](std::uint64_t a, std::uint64_t b) { return *Range<Gpa>::closed(Gpa{a}, Gpa{b}); };
    REQUIRE(map.insert(range(10, 19), 1));
    REQUIRE(map.insert(range(20, 29), 2));
    CHECK_FALSE(map.insert(range(5, 10), 3));
    CHECK_FALSE(map.insert(range(15, 16), 3));
    CHECK_FALSE(map.insert(range(0, ~std::uint64_t{0}), 3));
    CHECK(map.find(range(12, 19))->value == 1);
    CHECK(map.find(range(19, 20)) == nullptr);
    CHECK(map.find(Gpa{29})->value == 2);
    CHECK(map.find(Gpa{30}) == nullptr);
    CHECK(map.overlap(range(0, 100))->value == 1);
    CHECK(map.overlap(range(30, 100)) == nullptr);
    CHECK_FALSE(map.erase(range(10, 18)));
    CHECK(map.erase(range(10, 19)));
    CHECK(map.find(Gpa{12}) == nullptr);
    CHECK(map.size() == 1);
}

TEST_CASE("every error code has a name and an exit code of its own") {
    std::set<std::string_view> names;
    std::set<int> exits;
    for (std::size_t i = 0; i < errc_count; ++i) {
        names.insert(error_name(static_cast<Errc>(i)));
        exits.insert(exit_code(static_cast<Errc>(i)));
    }
    CHECK(names.size() == errc_count);
    CHECK(exits.size() == errc_count);
    CHECK_FALSE(exits.contains(0));
}

TEST_CASE("wire integers are little-endian at any alignment") {
    struct Wire {
        std::uint8_t first;
        Le32 value;
    };
    static_assert(sizeof(Wire) == 5 && GuestPod<Wire>);
    static_assert(!GuestPod<std::span<std::byte>> && !GuestPod<std::span<const std::byte>>);
    const Wire wire{1, Le32{0x11223344}};
    const auto bytes = std::as_bytes(std::span{&wire, 1});
    CHECK(bytes[1] == std::byte{0x44});
    CHECK(load_le<std::uint16_t>(bytes.subspan(1)) == 0x3344);
    std::array<std::byte, 3> out{};
    store_le(out, 0x11223344);
    CHECK(out[2] == std::byte{0x22});
}

TEST_CASE("the event loop runs posted work, watches and timers until stopped") {
    EventLoop loop;
    auto event = *EventFd::create();
    int seen = 0;
    bool timer_fired = false;
    auto watch = *loop.watch(event.fd(), [&] {
        event.drain();
        if (++seen == 2)
            loop.stop();
        else
            event.signal();
    });
    auto cancelled = loop.after(std::chrono::milliseconds{0}, [&] { FAIL("cancelled timer fired"); });
    cancelled.reset();
    auto timer = loop.after(std::chrono::milliseconds{1}, [&] {
        timer_fired = true;
        event.signal();
    });
    loop.run();
    CHECK(timer_fired);
    CHECK(seen == 2);
}

TEST_CASE("urgent work passes by all that waits, in its own order, and none of it is lost") {
    EventLoop loop;
    auto event = *EventFd::create();
    std::string order;
    Registration watch = *loop.watch(event.fd(), [&] {
        event.drain();
        order += 'w';
    });
    loop.post([&] {
        order += '1';
        event.signal();
        for (const char c : {'A', 'B'})
            loop.post_urgent([&, c] { order += c; });
    });
    for (const char c : {'2', '3'})
        loop.post([&, c] { order += c; });
    loop.post([&] { loop.post([&] { loop.post([&] { loop.stop(); }); }); });
    loop.run();
    CHECK(order.substr(0, 5) == "1AB23");
    CHECK(order.find('w') != order.npos);
    loop.restart();
    loop.post_urgent([&] { loop.stop(); }); // wakes the loop by itself
    loop.run();
}

TEST_CASE("urgent work without end leaves a part of the loop to all else") {
    EventLoop loop;
    unsigned urgent = 0;
    std::function<void()> again = [&] {
        ++urgent;
        loop.post_urgent(again);
    };
    loop.post_urgent(again);
    loop.post([&] { loop.stop(); });
    loop.run();
    CHECK(urgent > 0);
    CHECK(urgent < 100);
}

TEST_CASE("urgent work may end the watch or the timer whose handler it runs before") {
    EventLoop loop;
    auto event = *EventFd::create();
    Registration watch, timer;
    bool ran = false;
    watch = *loop.watch(event.fd(), [&] { ran = true; });
    timer = loop.after(std::chrono::milliseconds{1}, [&] { ran = true; });
    loop.post([&] {
        event.signal();
        std::this_thread::sleep_for(std::chrono::milliseconds{5}); // both are due by then
        loop.post_urgent([&] {
            watch.reset();
            timer.reset();
        });
    });
    auto end = loop.after(std::chrono::milliseconds{20}, [&] { loop.stop(); });
    loop.run();
    CHECK_FALSE(ran);
}

} // namespace inox::base_test
