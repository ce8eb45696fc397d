// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/event_loop.hpp"

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "tests/catch.hpp"

namespace inox::base_event_loop_apart_test {

using namespace inox;
using namespace std::chrono_literals;

namespace {

/// Runs `make` Apart on another thread while the loop runs, and `made` on the loop afterwards.
void beside(EventLoop& loop, const std::function<void()>& make, std::function<void()> made) {
    std::jthread maker{[&] {
        {
            const EventLoop::Apart apart{loop};
            make();
        }
        loop.post(std::move(made));
    }};
    loop.run();
}

} // namespace

TEST_CASE("what a thread does apart from the loop comes into force at its end, in its order") {
    EventLoop loop;
    const auto event = EventFd::create().value();
    event.signal();
    std::vector<int> ran;
    std::atomic<bool> early{false};
    Registration watch;
    Registration timer;
    Registration end;
    beside(
        loop,
        [&] {
            loop.post([&] { ran.push_back(1); });
            watch = loop.watch(event.fd(),
                               [&] {
                                   event.drain();
                                   ran.push_back(3);
                               })
                        .value();
            timer = loop.after(0ms, [&] { ran.push_back(4); });
            loop.post([&] { ran.push_back(2); });
            std::promise<void> passed; // the loop works in the meantime
            std::jthread{[&] { loop.post([&] { passed.set_value(); }); }}.join();
            passed.get_future().wait();
            std::this_thread::sleep_for(20ms);
            early = !ran.empty();
        },
        [&] { end = loop.after(20ms, [&] { loop.stop(); }); });
    CHECK_FALSE(early);
    std::ranges::sort(ran); // the loop chooses the order of what is ready at the same time
    CHECK(ran == std::vector{1, 2, 3, 4});
}

TEST_CASE("what a thread took back before its end never happens") {
    EventLoop loop;
    const auto event = EventFd::create().value();
    event.signal();
    int ran = 0;
    Registration end;
    beside(
        loop,
        [&] {
            auto watch = loop.watch(event.fd(), [&] { ++ran; }).value();
            const auto timer = loop.after(0ms, [&] { ++ran; });
            watch.reset();
        },
        [&] { end = loop.after(20ms, [&] { loop.stop(); }); });
    CHECK(ran == 0);
}

TEST_CASE("other loops and other threads have nothing to do with a thread apart") {
    EventLoop loop;
    EventLoop other;
    int ran = 0;
    {
        const EventLoop::Apart apart{loop};
        other.post([&] { ++ran; });
        other.post([&] { other.stop(); });
        other.run();
    }
    CHECK(ran == 1);
}

} // namespace inox::base_event_loop_apart_test
