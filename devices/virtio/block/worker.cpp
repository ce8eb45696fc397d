// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/worker.hpp"

#include <algorithm>
#include <cerrno>

namespace inox::devices::virtio {

Result<std::unique_ptr<BlockWorker>> BlockWorker::create() {
    auto event = TRY(EventFd::create());
    return std::unique_ptr<BlockWorker>{new BlockWorker{std::move(event)}};
}

void BlockWorker::submit(BlockJob& job) noexcept {
    const bool started = thread_.start().has_value();
    if (!started)
        carry_out(job);
    {
        const std::lock_guard lock{mutex_};
        (started ? waiting_ : finished_).push_back(&job);
    }
    if (started)
        return thread_.post([this] { do_next(); });
    any_finished_ = true;
    ready_.signal();
}

void BlockWorker::do_next() noexcept {
    std::unique_lock lock{mutex_};
    if (waiting_.empty())
        return; // one was cancelled
    BlockJob* job = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    carry_out(*job);
    lock.lock();
    finished_.push_back(job);
    if (!any_finished_.exchange(true))
        ready_.signal();
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
