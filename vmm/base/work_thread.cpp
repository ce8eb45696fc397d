// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/work_thread.hpp"

#include <utility>

#include "vmm/base/thread_failure.hpp"

namespace inox {

Result<void> WorkThread::start() {
    const std::lock_guard lock{mutex_};
    if (runs())
        return {};
    try {
        thread_ = std::jthread{[this] { run(); }};
    } catch (const std::system_error& error) {
        return fail_thread(what_, error);
    }
    runs_.store(true, std::memory_order_release);
    return {};
}

void WorkThread::post(Work work) {
    const std::lock_guard lock{mutex_};
    waiting_.push_back(std::move(work));
    more_.notify_one();
}

void WorkThread::finish() {
    {
        const std::lock_guard lock{mutex_};
        if (!runs())
            return;
        finishing_ = true;
        more_.notify_one();
    }
    thread_.join();
    id_.store({}, std::memory_order_release);
    runs_.store(false, std::memory_order_release);
    finishing_ = false;
}

void WorkThread::run() {
    enter_thread(kind_, name_);
    id_.store(std::this_thread::get_id(), std::memory_order_release);
    std::unique_lock lock{mutex_};
    for (;;) {
        more_.wait(lock, [this] { return !waiting_.empty() || finishing_; });
        if (waiting_.empty())
            return;
        {
            Work work = std::move(waiting_.front());
            waiting_.pop_front();
            lock.unlock();
            work();
        }
        lock.lock();
    }
}

} // namespace inox
