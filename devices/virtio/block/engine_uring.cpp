// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cerrno>

#include "devices/virtio/block/file.hpp"
#include "devices/virtio/block/ring.hpp"
#include "devices/virtio/block/worker.hpp"

namespace inox::devices::virtio {
namespace {

// The loop polls the ring's own descriptor, not an eventfd. A completion that was taken during the kick then wakes
// nobody, because epoll checks the ring again before it reports.
class UringEngine final : public BlockEngine {
public:
    /// Takes over the ring.
    UringEngine(const io_uring& ring, std::unique_ptr<BlockWorker> worker)
        : ring_{ring}, worker_{std::move(worker)}, fds_{ring_.ring_fd, worker_->ready_fd()} {}
    /// Precondition: the owner has taken back every job.
    ~UringEngine() override { ::io_uring_queue_exit(&ring_); }

    [[nodiscard]] std::span<const int> ready_fds() const override { return fds_; }
    void submit(BlockJob& job) noexcept override;
    BlockJob* take_finished() noexcept override;
    [[nodiscard]] bool stalled() const noexcept override { return ::io_uring_sq_ready(&ring_) != 0; }
    void cancel(BlockJob& job) noexcept override;

private:
    void prepare(io_uring_sqe& entry, BlockJob& job) const noexcept;
    [[nodiscard]] io_uring_cqe* next() noexcept;
    /// True when the job is finished, false when the rest of it was submitted.
    bool settle(BlockJob& job, int result) noexcept;

    io_uring ring_;
    std::unique_ptr<BlockWorker> worker_; // for jobs that the ring cannot do
    std::array<int, 2> fds_;
};

void UringEngine::submit(BlockJob& job) noexcept {
    // Block devices are discarded by an ioctl, which the ring does not support.
    io_uring_sqe* entry =
        job.kind == BlockJobKind::discard && discard_mode(*job.file) < 0 ? nullptr : ::io_uring_get_sqe(&ring_);
    if (!entry)
        return worker_->submit(job);
    prepare(*entry, job);
    ::io_uring_sqe_set_data(entry, &job);
}

void UringEngine::cancel(BlockJob& job) noexcept {
    job.cancelled = true;
    if (worker_->cancel(job))
        return;
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    if (!entry) // the ring is full: the job ends by itself
        return;
    ::io_uring_prep_cancel(entry, &job, 0);
    ::io_uring_sqe_set_data(entry, nullptr);
}

void UringEngine::prepare(io_uring_sqe& entry, BlockJob& job) const noexcept {
    const int fd = job.file->fd();
    switch (job.kind) {
    case BlockJobKind::read:
        ::io_uring_prep_readv(&entry, fd, job.data->data(), static_cast<unsigned>(job.data->size()), job.offset);
        break;
    case BlockJobKind::write:
        ::io_uring_prep_writev(&entry, fd, job.data->data(), static_cast<unsigned>(job.data->size()), job.offset);
        entry.rw_flags = job.durable ? RWF_DSYNC : 0;
        break;
    case BlockJobKind::flush:
        ::io_uring_prep_fsync(&entry, fd, IORING_FSYNC_DATASYNC);
        break;
    case BlockJobKind::discard:
    case BlockJobKind::write_zeroes:
        ::io_uring_prep_fallocate(
            &entry, fd, job.kind == BlockJobKind::discard ? discard_mode(*job.file) : write_zeroes_mode(job.unmap),
            static_cast<off_t>(job.offset), static_cast<off_t>(job.length));
        break;
    }
    // A large transfer from the page cache would be copied during the submission. Without NOWAIT in the file system,
    // the ring would first ask whether the file can be polled, which FUSE asks its server.
    if (job.data && (job.length > most_at_once || !job.file->takes_nowait()))
        ::io_uring_sqe_set_flags(&entry, IOSQE_ASYNC);
}

io_uring_cqe* UringEngine::next() noexcept {
    io_uring_cqe* completion = nullptr;
    while (::io_uring_peek_cqe(&ring_, &completion) != 0) {
        if (::io_uring_sq_ready(&ring_) == 0)
            return nullptr;
        const int result = ::io_uring_submit(&ring_);
        if (result <= 0 && result != -EINTR) // short of memory, or the completion ring is full
            return nullptr;
    }
    return completion;
}

bool UringEngine::settle(BlockJob& job, int result) noexcept {
    const bool transfer = job.kind == BlockJobKind::read || job.kind == BlockJobKind::write;
    if (!job.cancelled &&
        (result == -EAGAIN || result == -EINTR || result == -ECANCELED || (!transfer && is_unsupported(-result)))) {
        worker_->submit(job);
        return false;
    }
    job.error = result < 0 ? -result : 0;
    if (result < 0 || !transfer)
        return true;
    if (result == 0)
        job.error = BlockJob::ended_early;
    else if (!advance(job, static_cast<std::uint64_t>(result))) {
        if (!job.cancelled) {
            submit(job);
            return false;
        }
        job.error = ECANCELED;
    }
    return true;
}

BlockJob* UringEngine::take_finished() noexcept {
    for (;;) {
        if (BlockJob* job = worker_->take_finished())
            return job;
        io_uring_cqe* completion = next();
        if (!completion)
            return nullptr;
        auto* job = static_cast<BlockJob*>(::io_uring_cqe_get_data(completion));
        const int result = completion->res;
        ::io_uring_cqe_seen(&ring_, completion);
        if (job && settle(*job, result)) // else: the result of a cancellation, which the job itself reports
            return job;
    }
}

} // namespace

std::unique_ptr<BlockEngine> create_uring_engine(std::unique_ptr<BlockWorker>& worker) {
    io_uring ring{};
    if (const int result = open_ring(ring, BlockEngine::depth); result < 0) {
        errno = -result;
        return nullptr;
    }
    return std::make_unique<UringEngine>(ring, std::move(worker));
}

} // namespace inox::devices::virtio
