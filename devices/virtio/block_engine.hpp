// SPDX-License-Identifier: Apache-2.0
// How block requests are carried out: at once by the calling thread, or by the kernel in its own time (io_uring).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio/block_file.hpp"

namespace devices::virtio {

/// One operation on a file. The engine borrows it from submit() until take_finished() returns it.
struct BlockJob {
    enum class Kind : std::uint8_t { read, write, flush, discard, write_zeroes };
    /// `error` of a read or write that met the end of the file.
    static constexpr int ended_early = 0x1000;

    Kind kind{Kind::flush};
    bool unmap{false};   ///< zeroes may be holes
    bool durable{false}; ///< a write: on stable storage when it is finished
    const BlockFile* file{nullptr};
    std::uint64_t offset{0};
    std::uint64_t length{0};
    std::vector<iovec>* data{nullptr}; ///< `length` bytes; consumed
    int error{0};                      ///< the outcome: 0, an errno, or ended_early
};

/// One thread at a time.
class BlockEngine {
public:
    /// Jobs that may be submitted and not yet taken back.
    static constexpr unsigned depth = 256;

    BlockEngine() = default;
    BlockEngine(const BlockEngine&) = delete;
    BlockEngine& operator=(const BlockEngine&) = delete;
    virtual ~BlockEngine() = default;

    [[nodiscard]] virtual std::string_view name() const = 0;
    /// Becomes readable when a job may have finished; -1 when jobs finish within submit().
    [[nodiscard]] virtual int ready_fd() const = 0;

    /// Adds a job to the batch.
    virtual void submit(BlockJob& job) noexcept = 0;
    enum class Wait : std::uint8_t { no, yes };
    /// A job that has finished; the batch is handed to the kernel first when there is none yet. Null when there is
    /// none; with Wait::yes only when none is left at all.
    virtual BlockJob* take_finished(Wait wait) noexcept = 0;
    /// The kernel was too short of memory to take all of the batch: call take_finished() again later.
    [[nodiscard]] virtual bool stalled() const noexcept = 0;
};

enum class BlockEngineKind : std::uint8_t { automatic, sync, io_uring };

/// Automatic is io_uring where the kernel lets us. io_uring that was asked for and is refused becomes sync, with a log
/// line that names `disk`.
std::unique_ptr<BlockEngine> create_block_engine(BlockEngineKind kind, const std::string& disk);

// The engines.
std::unique_ptr<BlockEngine> create_sync_engine();
/// Null, with errno set, when the kernel refuses.
std::unique_ptr<BlockEngine> create_uring_engine();

/// Carries out the job, or what is left of it, on the calling thread.
void carry_out(BlockJob& job) noexcept;
/// Notes that `bytes` more of a read or write are done. True when that was all.
bool advance(BlockJob& job, std::uint64_t bytes) noexcept;

} // namespace devices::virtio
