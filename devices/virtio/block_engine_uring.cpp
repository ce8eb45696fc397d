// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <liburing.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "devices/virtio/block_engine.hpp"

namespace devices::virtio {
namespace {

using Kind = BlockJob::Kind;

// The ring's own descriptor is polled, not an eventfd: a completion that was taken within the kick then wakes nobody,
// because epoll looks at the ring again before it reports.
class UringEngine final : public BlockEngine {
public:
    /// Takes over the ring.
    explicit UringEngine(const io_uring& ring) : ring_{ring} {}
    /// The owner has taken back every job.
    ~UringEngine() override { ::io_uring_queue_exit(&ring_); }

    [[nodiscard]] std::string_view name() const override { return "io_uring"; }
    [[nodiscard]] int ready_fd() const override { return ring_.ring_fd; }
    void submit(BlockJob& job) noexcept override;
    BlockJob* take_finished(Wait wait) noexcept override;
    [[nodiscard]] bool stalled() const noexcept override { return ::io_uring_sq_ready(&ring_) != 0; }

private:
    void prepare(io_uring_sqe& entry, BlockJob& job) const noexcept;
    [[nodiscard]] io_uring_cqe* next(Wait wait) noexcept;
    /// True when the job is finished, false when the rest of it was submitted.
    bool settle(BlockJob& job, int result) noexcept;

    void finish_here(BlockJob& job) noexcept;

    io_uring ring_;
    unsigned in_ring_{0};                // entries whose completion was not taken yet
    std::vector<BlockJob*> done_here_{}; // carried out by this thread
};

void UringEngine::finish_here(BlockJob& job) noexcept {
    carry_out(job);
    done_here_.push_back(&job);
}

void UringEngine::submit(BlockJob& job) noexcept {
    // Devices are discarded by an ioctl, which the ring does not carry.
    io_uring_sqe* entry =
        job.kind == Kind::discard && discard_mode(*job.file) < 0 ? nullptr : ::io_uring_get_sqe(&ring_);
    if (!entry)
        return finish_here(job);
    prepare(*entry, job);
    ++in_ring_;
}

void UringEngine::prepare(io_uring_sqe& entry, BlockJob& job) const noexcept {
    const int fd = job.file->fd();
    switch (job.kind) {
    case Kind::read:
        ::io_uring_prep_readv(&entry, fd, job.data->data(), static_cast<unsigned>(job.data->size()), job.offset);
        break;
    case Kind::write:
        ::io_uring_prep_writev(&entry, fd, job.data->data(), static_cast<unsigned>(job.data->size()), job.offset);
        entry.rw_flags = job.durable ? RWF_DSYNC : 0;
        break;
    case Kind::flush:
        ::io_uring_prep_fsync(&entry, fd, IORING_FSYNC_DATASYNC);
        break;
    case Kind::discard:
    case Kind::write_zeroes:
        ::io_uring_prep_fallocate(&entry, fd,
                                  job.kind == Kind::discard ? discard_mode(*job.file) : write_zeroes_mode(job.unmap),
                                  static_cast<off_t>(job.offset), static_cast<off_t>(job.length));
        break;
    }
    ::io_uring_sqe_set_data(&entry, &job);
}

io_uring_cqe* UringEngine::next(Wait wait) noexcept {
    const bool waits = wait == Wait::yes;
    io_uring_cqe* completion = nullptr;
    while (::io_uring_peek_cqe(&ring_, &completion) != 0) {
        if (in_ring_ == 0 || (!waits && ::io_uring_sq_ready(&ring_) == 0))
            return nullptr;
        const int result = ::io_uring_submit_and_wait(&ring_, waits ? 1 : 0);
        if (result > 0 || result == -EINTR)
            continue;
        // Short of memory, or the completion ring is full.
        if (!waits)
            return nullptr;
        if (result < 0)
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    return completion;
}

bool UringEngine::settle(BlockJob& job, int result) noexcept {
    const bool transfer = job.kind == Kind::read || job.kind == Kind::write;
    if (result == -EAGAIN || result == -EINTR || result == -ECANCELED || (!transfer && is_unsupported(-result))) {
        carry_out(job);
        return true;
    }
    job.error = result < 0 ? -result : 0;
    if (result < 0 || !transfer)
        return true;
    if (result == 0)
        job.error = BlockJob::ended_early;
    else if (!advance(job, static_cast<std::uint64_t>(result))) {
        submit(job);
        return false;
    }
    return true;
}

BlockJob* UringEngine::take_finished(Wait wait) noexcept {
    for (;;) {
        if (!done_here_.empty()) {
            BlockJob* job = done_here_.back();
            done_here_.pop_back();
            return job;
        }
        io_uring_cqe* completion = next(wait);
        if (!completion)
            return nullptr;
        auto* job = static_cast<BlockJob*>(::io_uring_cqe_get_data(completion));
        const int result = completion->res;
        ::io_uring_cqe_seen(&ring_, completion);
        --in_ring_;
        if (settle(*job, result))
            return job;
    }
}

} // namespace

std::unique_ptr<BlockEngine> create_uring_engine() {
    io_uring ring{};
    // Without interruptions of this thread by completions; the flag is younger (5.19) than all else that is used here.
    int result = ::io_uring_queue_init(BlockEngine::depth, &ring, IORING_SETUP_COOP_TASKRUN);
    if (result == -EINVAL)
        result = ::io_uring_queue_init(BlockEngine::depth, &ring, 0);
    if (result < 0) {
        errno = -result;
        return nullptr;
    }
    return std::make_unique<UringEngine>(ring);
}

} // namespace devices::virtio
