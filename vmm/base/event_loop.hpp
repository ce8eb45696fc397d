// SPDX-License-Identifier: Apache-2.0
// The device loop: one thread runs it; device and machine state belong to that thread.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "vmm/base/os.hpp"

namespace boost::asio {
class io_context;
}

namespace inox {

class EventLoop {
public:
    EventLoop();
    ~EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    /// Runs handlers until stop(). Call from one thread.
    void run();
    /// From any thread; run() returns after the current handler.
    void stop();
    /// After run() returned: it may be called again. For tests.
    void restart();

    /// Runs `handler` on the loop. From any thread.
    void post(std::move_only_function<void()> handler);
    /// The same before all that waits for the loop, after the handler that runs now: for what people ask, so that no
    /// guest's work makes them wait. In the order of these calls.
    void post_urgent(std::move_only_function<void()> handler);
    /// Runs `handler` on the loop and returns its result. From any thread but the loop's.
    template <class F> auto call(F handler) -> decltype(handler()) {
        std::packaged_task<decltype(handler())()> task{std::move(handler)};
        auto result = task.get_future();
        post([&task] { task(); });
        return result.get();
    }

    /// While this lives on a thread that is not the loop's, that thread may watch and wait here too, and drop what it
    /// registered: all of it, and what it posts, comes into force in its order when this ends. So the thread can make
    /// what the loop will serve, undisturbed by it. The loop outlives it.
    class Apart {
    public:
        explicit Apart(EventLoop& loop);
        ~Apart();
        Apart(const Apart&) = delete;
        Apart& operator=(const Apart&) = delete;

    private:
        friend class EventLoop;
        EventLoop& loop_;
        std::vector<std::move_only_function<void()>> waiting_{}; ///< each runs on the loop
    };

    /// Calls `handler` on the loop each time `fd` is readable (level triggered) until the registration dies. From the
    /// loop's thread, before run(), or Apart. The loop keeps a duplicate of the descriptor: closing yours does not end
    /// the watch, the registration does. The handler may drop its own registration.
    Result<Registration> watch(int fd, std::function<void()> handler);
    /// The same for writable.
    Result<Registration> watch_writable(int fd, std::function<void()> handler);
    /// Calls `handler` once after `delay` unless the registration dies first. From the loop's thread, before
    /// run(), or Apart.
    Registration after(std::chrono::nanoseconds delay, std::function<void()> handler);

    /// For a server that works on this thread.
    [[nodiscard]] boost::asio::io_context& context();

private:
    struct Impl;
    struct Watch;
    [[nodiscard]] Apart* apart() const;
    Result<Registration> watch_for(int fd, bool writable, std::function<void()> handler);
    std::unique_ptr<Impl> impl_;
};

} // namespace inox
