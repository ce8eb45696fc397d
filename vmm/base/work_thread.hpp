// SPDX-License-Identifier: Apache-2.0
// A thread for work that may take long, one piece after the other.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "vmm/base/error.hpp"
#include "vmm/base/thread_kind.hpp"

namespace inox {

/// Thread-safe, but for finish().
class WorkThread {
public:
    using Work = std::move_only_function<void()>;
    /// `what`: for messages, as in "cannot start the thread that ...". `name`: what tools show, at most 15 bytes.
    WorkThread(ThreadKind kind, const char* what, const char* name) : kind_{kind}, what_{what}, name_{name} {}
    WorkThread(const WorkThread&) = delete;
    WorkThread& operator=(const WorkThread&) = delete;
    ~WorkThread() { finish(); }

    /// Starts it unless it runs already. host_error when the system has no thread left.
    Result<void> start();
    /// Whether start() succeeded, and finish() was not called since.
    [[nodiscard]] bool runs() const { return runs_.load(std::memory_order_acquire); }
    /// Whether the caller is this thread.
    [[nodiscard]] bool is_current() const { return id_.load(std::memory_order_acquire) == std::this_thread::get_id(); }
    /// After all that was posted before. The thread runs, or the work waits until it does.
    void post(Work work);
    /// Returns when all that was posted is done and the thread is gone. From one other thread.
    void finish();

private:
    void run();

    const ThreadKind kind_;
    const char* const what_;
    const char* const name_;
    std::atomic<bool> runs_{false};
    std::atomic<std::thread::id> id_{};
    std::mutex mutex_{}; // guards all below
    std::condition_variable more_{};
    std::deque<Work> waiting_{};
    bool finishing_{false};
    std::jthread thread_{};
};

} // namespace inox
