// SPDX-License-Identifier: Apache-2.0
// Changes of a machine that wait for the host: they begin and end on the loop, and wait beside it.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "vmm/base/event_loop.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/work_thread.hpp"

namespace inox {

/// On the loop's thread. One change after the other, each whole before the next begins.
class BesideLoop {
public:
    using Work = std::move_only_function<void()>;
    /// On the loop: finds what is wrong already, and says what to do beside it.
    using Begin = std::move_only_function<Result<Work>()>;
    /// On the loop, once: the error of `begin`, or that there is no thread (host_error) or no time left (wrong_state).
    using End = std::move_only_function<void(Result<void>)>;

    explicit BesideLoop(EventLoop& loop) : loop_{loop} {}
    BesideLoop(const BesideLoop&) = delete;
    BesideLoop& operator=(const BesideLoop&) = delete;
    ~BesideLoop() { stop(); }

    /// The work runs EventLoop::Apart. `end` may be called before this returns.
    void run(Begin begin, End end);
    [[nodiscard]] bool busy() const { return !changes_.empty(); }
    /// Nothing begins any more. What waits for an outside::Door gives up; returns once the thread is gone.
    void stop();

private:
    struct Change {
        Begin begin;
        End end;
    };
    void next();
    Result<void> get_ready();
    void on_done();

    EventLoop& loop_;
    std::deque<Change> changes_{}; ///< the first one is at work
    bool at_work_{false};
    bool stopped_{false};
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};
    std::optional<EventFd> stop_now_{}; ///< made with the first change
    WorkThread thread_{ThreadKind::start, "the thread that opens devices", "device-opener"}; ///< last: it ends first
};

} // namespace inox
