// SPDX-License-Identifier: Apache-2.0
// How block requests are carried out: asynchronously by the kernel (io_uring), or by our system calls. Neither blocks
// the calling thread: what the kernel cannot do at once is left to the kernel, or to a thread of the disk.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/virtio/block/options.hpp"
#include "vmm/base/error.hpp"

namespace inox::devices::virtio {

class BlockFile;

enum class BlockJobKind : std::uint8_t { read, write, flush, discard, write_zeroes };

/// One operation on a file. The engine borrows it from submit() until take_finished() returns it.
struct BlockJob {
    /// `error` of a read or write that met the end of the file.
    static constexpr int ended_early = 0x1000;

    BlockJobKind kind{BlockJobKind::flush};
    bool unmap{false};   ///< zeroes may be holes
    bool durable{false}; ///< a write: on stable storage when it is finished
    std::shared_ptr<const BlockFile> file{};
    std::uint64_t offset{0};
    std::uint64_t length{0};
    std::vector<iovec>* data{nullptr}; ///< of a read or write: `length` bytes; consumed
    int error{0};                      ///< the outcome: 0, an errno, or ended_early
    bool cancelled{false};             ///< nobody wants it any more: it need not be tried again
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

    /// One of them becomes readable when a job may have finished.
    [[nodiscard]] virtual std::span<const int> ready_fds() const = 0;

    /// Adds a job to the batch.
    virtual void submit(BlockJob& job) noexcept = 0;
    /// A job that has finished; the batch is handed to the kernel first when there is none yet. Null when there is
    /// none. Never waits for storage.
    virtual BlockJob* take_finished() noexcept = 0;
    /// The kernel was too short of memory to take all of the batch: call take_finished() again later.
    [[nodiscard]] virtual bool stalled() const noexcept = 0;
    /// Asks for an end of a job that was submitted and not taken back: it finishes as ever, with ECANCELED where it
    /// could be stopped. What the host's storage has begun cannot be.
    virtual void cancel(BlockJob& job) noexcept = 0;
};

/// Automatic is io_uring where the kernel lets us. io_uring that was asked for and is refused becomes sync, with a log
/// line that names `disk`.
Result<std::unique_ptr<BlockEngine>> create_block_engine(BlockEngineKind kind, const std::string& disk);

class BlockWorker;
// The engines; each with a worker of its own.
std::unique_ptr<BlockEngine> create_sync_engine(std::unique_ptr<BlockWorker> worker);
/// Null, with errno set and the worker untouched, when the kernel refuses.
std::unique_ptr<BlockEngine> create_uring_engine(std::unique_ptr<BlockWorker>& worker);

/// Reads and writes of more bytes are not for a thread that others wait for, even from the page cache.
inline constexpr std::uint64_t most_at_once = 1024 * 1024;

/// Carries out the job, or what is left of it, on the calling thread.
void carry_out(BlockJob& job) noexcept;
/// Notes that `bytes` more of a read or write are done. True when that was all.
bool advance(BlockJob& job, std::uint64_t bytes) noexcept;

} // namespace inox::devices::virtio
