// SPDX-License-Identifier: Apache-2.0
// Runs a device loop on the test's own thread, so that a test reads from top to bottom and needs no locks.
#pragma once

#include <chrono>
#include <ctime>
#include <functional>

#include "vmm/base/event_loop.hpp"

namespace inox::fakes {

/// Runs the loop until `done` or the limit. Returns whether it is done; does not ask again once it was.
inline bool run_until(EventLoop& loop, const std::function<bool()>& done,
                      std::chrono::milliseconds limit = std::chrono::seconds{10}) {
    const auto end = std::chrono::steady_clock::now() + limit;
    Registration timer;
    bool reached = false;
    std::function<void()> look = [&] {
        reached = done();
        if (reached || std::chrono::steady_clock::now() >= end)
            loop.stop();
        else
            timer = loop.after(std::chrono::microseconds{200}, look);
    };
    loop.restart();
    loop.post(look);
    loop.run();
    return reached;
}

/// Runs the loop for a while.
inline void run_for(EventLoop& loop, std::chrono::milliseconds time) {
    loop.restart();
    const auto timer = loop.after(time, [&] { loop.stop(); });
    loop.run();
}

/// Runs what is posted and what is ready now.
inline void turn(EventLoop& loop) {
    loop.restart();
    loop.post([&] { loop.post([&] { loop.stop(); }); });
    loop.run();
}

/// Processor time this thread spends in the loop while it runs for `time`: a watch that spins shows.
inline std::chrono::nanoseconds busy_for(EventLoop& loop, std::chrono::milliseconds time) {
    const auto now = [] {
        timespec spent{};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
        return std::chrono::seconds{spent.tv_sec} + std::chrono::nanoseconds{spent.tv_nsec};
    };
    const auto before = now();
    run_for(loop, time);
    return now() - before;
}

} // namespace inox::fakes
