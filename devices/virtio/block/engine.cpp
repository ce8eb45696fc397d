// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/engine.hpp"

#include <cerrno>
#include <cstring>

#include "devices/virtio/block/file.hpp"
#include "devices/virtio/block/worker.hpp"
#include "devices/virtio/queue.hpp"
#include "vmm/base/log.hpp"

namespace inox::devices::virtio {
namespace {

ssize_t transfer_once(const BlockJob& job, int flags) noexcept {
    const auto count = static_cast<int>(job.data->size());
    const auto offset = static_cast<off_t>(job.offset);
    if (job.kind == BlockJobKind::read)
        return ::preadv2(job.file->fd(), job.data->data(), count, offset, flags);
    return ::pwritev2(job.file->fd(), job.data->data(), count, offset, flags | (job.durable ? RWF_DSYNC : 0));
}

int transfer(BlockJob& job) noexcept {
    while (job.length != 0) {
        const ssize_t done = transfer_once(job, 0);
        if (done < 0 && errno != EINTR)
            return errno;
        if (done == 0)
            return BlockJob::ended_early;
        if (done > 0)
            advance(job, static_cast<std::uint64_t>(done));
    }
    return 0;
}

/// Does at once what the page cache can serve. The worker does everything else.
class SyncEngine final : public BlockEngine {
public:
    explicit SyncEngine(std::unique_ptr<BlockWorker> worker) : worker_{std::move(worker)}, fd_{worker_->ready_fd()} {}

    [[nodiscard]] std::span<const int> ready_fds() const override { return {&fd_, 1}; }
    void submit(BlockJob& job) noexcept override {
        if (transfer_at_once(job))
            finished_.push_back(&job);
        else
            worker_->submit(job);
    }
    BlockJob* take_finished() noexcept override {
        if (next_ != finished_.size())
            return finished_[next_++];
        finished_.clear();
        next_ = 0;
        return worker_->take_finished();
    }
    [[nodiscard]] bool stalled() const noexcept override { return false; }
    void cancel(BlockJob& job) noexcept override { (void)worker_->cancel(job); }

private:
    bool transfer_at_once(BlockJob& job) noexcept;

    std::unique_ptr<BlockWorker> worker_;
    int fd_;
    std::vector<BlockJob*> finished_{}; ///< of jobs that were done at once
    std::size_t next_{0};
    // Whether the image's file system can say that it would have to wait (RWF_NOWAIT).
    bool reads_at_once_{true};
    bool writes_at_once_{true};
};

/// False when the rest of the job takes longer. A job that is finished has its result.
bool SyncEngine::transfer_at_once(BlockJob& job) noexcept {
    const bool reads = job.kind == BlockJobKind::read;
    // Stable storage never answers at once, and what a temporary disk keeps belongs to its worker.
    if (job.file->overlay() != nullptr || (!reads && (job.kind != BlockJobKind::write || job.durable)) ||
        job.length > most_at_once)
        return false;
    bool& able = reads ? reads_at_once_ : writes_at_once_;
    while (able && job.length != 0) {
        const ssize_t done = transfer_once(job, RWF_NOWAIT);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EOPNOTSUPP)
            able = false;
        if (done <= 0)
            return false; // the worker finds errors, too
        advance(job, static_cast<std::uint64_t>(done));
    }
    return job.length == 0;
}

} // namespace

bool advance(BlockJob& job, std::uint64_t bytes) noexcept {
    job.offset += bytes;
    job.length -= bytes;
    if (job.length != 0)
        drop_front(*job.data, bytes);
    return job.length == 0;
}

void carry_out(BlockJob& job) noexcept {
    switch (job.kind) {
    case BlockJobKind::read:
    case BlockJobKind::write:
        job.error = job.file->overlay() != nullptr ? job.file->overlay()->transfer(job.file->fd(), job) : transfer(job);
        break;
    case BlockJobKind::flush:
        job.error = job.file->sync();
        break;
    case BlockJobKind::discard:
        job.error = job.file->discard(job.offset, job.length);
        break;
    case BlockJobKind::write_zeroes:
        job.error = job.file->write_zeroes(job.offset, job.length, job.unmap);
        break;
    }
}

std::unique_ptr<BlockEngine> create_sync_engine(std::unique_ptr<BlockWorker> worker) {
    return std::make_unique<SyncEngine>(std::move(worker));
}

Result<std::unique_ptr<BlockEngine>> create_block_engine(BlockEngineKind kind, const std::string& disk) {
    auto worker = TRY(BlockWorker::create());
    if (kind == BlockEngineKind::sync)
        return create_sync_engine(std::move(worker));
    if (auto engine = create_uring_engine(worker))
        return engine;
    if (kind == BlockEngineKind::io_uring)
        log::write(log::Level::warning, "%s: the kernel refuses io_uring (%s); using the Sync engine instead of Async",
                   disk.c_str(), std::strerror(errno));
    return create_sync_engine(std::move(worker));
}

} // namespace inox::devices::virtio
