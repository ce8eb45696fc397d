// SPDX-License-Identifier: Apache-2.0
// A thread that carries out jobs which may take long, one after the other, so that the device loop never waits for the
// host's storage. It is there from the first job on.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>

#include "devices/virtio/block/engine.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/work_thread.hpp"

namespace inox::devices::virtio {

/// Used by one thread at a time. At its end it has been given back every job.
class BlockWorker {
public:
    static Result<std::unique_ptr<BlockWorker>> create();
    /// Readable when a job may have finished.
    [[nodiscard]] int ready_fd() const { return ready_.fd(); }
    /// Without a thread, because the host has no more of them, the caller's does it.
    void submit(BlockJob& job) noexcept;
    /// Null when none has finished. Never waits for one.
    BlockJob* take_finished() noexcept;
    /// False when the job is not waiting: it is under way, or over.
    bool cancel(BlockJob& job) noexcept;

private:
    explicit BlockWorker(EventFd ready) : ready_{std::move(ready)} {}
    void do_next() noexcept;

    const EventFd ready_;
    std::atomic<bool> any_finished_{false}; ///< so that looking costs nothing

    std::mutex mutex_; // guards all below
    std::deque<BlockJob*> waiting_{};
    std::deque<BlockJob*> finished_{};

    WorkThread thread_{ThreadKind::disk, "the thread of a disk", "disk-worker"}; // last: it uses all of the above
};

} // namespace inox::devices::virtio
