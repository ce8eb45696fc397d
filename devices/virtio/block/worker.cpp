// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/worker.hpp"

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace inox::devices::virtio {

Result<std::unique_ptr<BlockWorker>> BlockWorker::create() {
    auto event = TRY(EventFd::create());
    return std::unique_ptr<BlockWorker>{new BlockWorker{std::move(event)}};
}

BlockWorker::~BlockWorker() {
    if (!thread_.joinable())
        return;
    {
        const std::lock_guard lock{mutex_};
        over_ = true;
    }
    more_.notify_one();
    thread_.join();
}

bool BlockWorker::start() noexcept {
    if (thread_.joinable())
        return true;
    try {
        thread_ = std::thread{[this] { work(); }};
    } catch (const std::system_error&) {
        return false;
    }
    return true;
}

void BlockWorker::submit(BlockJob& job) noexcept {
    const bool started = start();
    if (!started)
        carry_out(job);
    {
        const std::lock_guard lock{mutex_};
        (started ? waiting_ : finished_).push_back(&job);
    }
    if (started)
        return more_.notify_one();
    any_finished_ = true;
    ready_.signal();
}

void BlockWorker::work() noexcept {
    ::pthread_setname_np(::pthread_self(), "disk-worker");
    std::unique_lock lock{mutex_};
    for (;;) {
        more_.wait(lock, [this] { return over_ || !waiting_.empty(); });
        if (waiting_.empty())
            return;
        BlockJob* job = waiting_.front();
        waiting_.pop_front();
        lock.unlock();
        carry_out(*job);
        lock.lock();
        finished_.push_back(job);
        if (!any_finished_.exchange(true))
            ready_.signal();
    }
}

BlockJob* BlockWorker::take_finished() noexcept {
    if (!any_finished_)
        return nullptr;
    const std::lock_guard lock{mutex_};
    if (finished_.empty()) {
        any_finished_ = false;
        ready_.drain();
        return nullptr;
    }
    BlockJob* job = finished_.front();
    finished_.pop_front();
    return job;
}

bool BlockWorker::cancel(BlockJob& job) noexcept {
    const std::lock_guard lock{mutex_};
    const auto found = std::ranges::find(waiting_, &job);
    if (found == waiting_.end())
        return false;
    waiting_.erase(found);
    job.error = ECANCELED;
    finished_.push_back(&job);
    any_finished_ = true;
    ready_.signal();
    return true;
}

} // namespace inox::devices::virtio
