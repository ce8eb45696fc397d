// SPDX-License-Identifier: Apache-2.0
#include "tests/support/run_loop.hpp"

namespace inox::tests {

bool run_until(EventLoop& loop, const std::function<bool()>& done, std::chrono::milliseconds limit) {
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

void run_for(EventLoop& loop, std::chrono::milliseconds time) {
    loop.restart();
    const auto timer = loop.after(time, [&] { loop.stop(); });
    loop.run();
}

void turn(EventLoop& loop) {
    loop.restart();
    loop.post([&] { loop.post([&] { loop.stop(); }); });
    loop.run();
}

std::chrono::nanoseconds busy_for(EventLoop& loop, std::chrono::milliseconds time) {
    const auto now = [] {
        timespec spent{};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
        return std::chrono::seconds{spent.tv_sec} + std::chrono::nanoseconds{spent.tv_nsec};
    };
    const auto before = now();
    run_for(loop, time);
    return now() - before;
}

} // namespace inox::tests
