// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block_engine.hpp"

#include <cerrno>
#include <cstring>

#include "devices/virtio/queue.hpp"
#include "vmm/base/log.hpp"

namespace devices::virtio {
namespace {

using Kind = BlockJob::Kind;

ssize_t transfer_once(const BlockJob& job) noexcept {
    const auto count = static_cast<int>(job.data->size());
    const auto offset = static_cast<off_t>(job.offset);
    if (job.kind == Kind::read)
        return ::preadv(job.file->fd(), job.data->data(), count, offset);
    return ::pwritev2(job.file->fd(), job.data->data(), count, offset, job.durable ? RWF_DSYNC : 0);
}

int transfer(BlockJob& job) noexcept {
    while (job.length != 0) {
        const ssize_t done = transfer_once(job);
        if (done < 0 && errno != EINTR)
            return errno;
        if (done == 0)
            return BlockJob::ended_early;
        if (done > 0)
            advance(job, static_cast<std::uint64_t>(done));
    }
    return 0;
}

class SyncEngine final : public BlockEngine {
public:
    [[nodiscard]] std::string_view name() const override { return "sync"; }
    [[nodiscard]] int ready_fd() const override { return -1; }
    void submit(BlockJob& job) noexcept override {
        carry_out(job);
        finished_.push_back(&job);
    }
    BlockJob* take_finished(Wait) noexcept override {
        if (next_ == finished_.size()) {
            finished_.clear();
            next_ = 0;
            return nullptr;
        }
        return finished_[next_++];
    }
    [[nodiscard]] bool stalled() const noexcept override { return false; }

private:
    std::vector<BlockJob*> finished_{};
    std::size_t next_{0};
};

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
    case Kind::read:
    case Kind::write:
        job.error = transfer(job);
        break;
    case Kind::flush:
        job.error = job.file->sync();
        break;
    case Kind::discard:
        job.error = job.file->discard(job.offset, job.length);
        break;
    case Kind::write_zeroes:
        job.error = job.file->write_zeroes(job.offset, job.length, job.unmap);
        break;
    }
}

std::unique_ptr<BlockEngine> create_sync_engine() { return std::make_unique<SyncEngine>(); }

std::unique_ptr<BlockEngine> create_block_engine(BlockEngineKind kind, const std::string& disk) {
    if (kind == BlockEngineKind::sync)
        return create_sync_engine();
    if (auto engine = create_uring_engine())
        return engine;
    if (kind == BlockEngineKind::io_uring)
        vmm::log::write(vmm::log::Level::warning,
                        "%s: the kernel refuses io_uring (%s); using the Sync engine instead of Async", disk.c_str(),
                        std::strerror(errno));
    return create_sync_engine();
}

} // namespace devices::virtio
