// SPDX-License-Identifier: Apache-2.0
// virtio-blk (virtio 1.2, 5.2): a disk from an image file or a block device.
//
//   block_request   a chain checked and taken apart      block_file     the image: lock, size, discard
//   block_config    what the driver is told              block_engine   who does the I/O: sync or io_uring
//   block_serve     the rings                            block_steps    a request's way through the engine
//
// Nothing waits for storage: requests are taken, their steps submitted, and their ends collected when the engine is
// ready. Behind an IOMMU reads and writes pin their addresses meanwhile; other requests use none until they are
// answered.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "devices/rate_limiter.hpp"
#include "devices/virtio/block/config.hpp"
#include "devices/virtio/block/engine.hpp"
#include "devices/virtio/block/options.hpp"
#include "devices/virtio/block/request.hpp"
#include "devices/virtio/device.hpp"
#include "vmm/base/event_loop.hpp"

namespace inox::devices::virtio {

/// Besides the counters of every device. Requests that succeeded, unless they say otherwise.
struct BlockCounters {
    std::atomic<std::uint64_t> reads{0};
    std::atomic<std::uint64_t> writes{0};
    std::atomic<std::uint64_t> flushes{0};
    std::atomic<std::uint64_t> discards{0}; ///< and write-zeroes
    std::atomic<std::uint64_t> read_bytes{0};
    std::atomic<std::uint64_t> write_bytes{0};
    std::atomic<std::uint64_t> failures{0};  ///< the host could not
    std::atomic<std::uint64_t> throttled{0}; ///< times a rate limit made the disk wait
};

/// Beyond the base class: create, change and destroy it on the loop's thread, or while the loop does not run. While
/// requests of before a reset are under way it keeps itself alive.
class Block final : public Device, public DmaPin::Owner, public std::enable_shared_from_this<Block> {
public:
    static constexpr std::uint16_t queue_size = 256;

    static Result<std::shared_ptr<Block>> create(BlockOptions options, EventLoop& loop);
    /// With an engine of the caller's.
    static Result<std::shared_ptr<Block>> create(BlockOptions options, EventLoop& loop,
                                                 std::unique_ptr<BlockEngine> engine);
    ~Block() override;

    /// Uses another image from now on, or the same one with its new size. Requests in flight finish on the old one,
    /// which is closed after the last of them; the driver is notified of the size. Nothing changes on an error.
    Result<void> replace(const std::string& path);
    /// The same in two parts. Any thread opens the image, with the options of this disk but for its path; none if
    /// has_image(). `other`: what was opened; null: the same image as now.
    static Result<std::shared_ptr<BlockFile>> open_other(BlockOptions options, const std::string& path);
    Result<void> replace(const std::string& path, std::shared_ptr<BlockFile> other);
    [[nodiscard]] bool has_image(const std::string& path) const;
    /// See RateLimiter::update.
    void update_limits(const RateLimits& limits);

    /// As asked for, with the path in use now.
    /// Gives up the lock on the image, while it is drained; or takes it again. in_use.
    Result<void> lock_image(bool on);
    [[nodiscard]] const BlockOptions& options() const { return options_; }
    [[nodiscard]] const BlockCounters& block_counters() const { return block_counters_; }

    [[nodiscard]] Type type() const override { return Type::block; }
    [[nodiscard]] std::uint64_t features() const override;
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    [[nodiscard]] bool resetting() const noexcept override { return orphans_.load(std::memory_order_acquire) != 0; }

    [[nodiscard]] std::optional<std::string> unsaveable() const override;

    /// The guest has waited too long for the memory of requests: they are cancelled and the disk breaks.
    void pins_overdue() noexcept override;

private:
    /// A request from the ring, and the job that is its present step.
    struct Slot : BlockJob {
        Chain chain{};
        BlockRequest request{};
        unsigned queue{0};
        std::uint32_t steps_done{0};
        std::uint64_t range_done{0}; ///< bytes of the present range
        bool ends_with_flush{false};
        bool in_engine{false};
        bool orphan{false};              ///< orphaned by a reset: there is nobody to answer
        DmaPin pin{};                    ///< behind an IOMMU: what a read or write uses
        std::optional<Iova> status_at{}; ///< behind an IOMMU: of other requests, whose memory may go meanwhile
    };
    enum class Next : std::uint8_t { empty, engine_full, later };

    Block(BlockOptions options, std::shared_ptr<BlockFile> file, std::unique_ptr<BlockEngine> engine, EventLoop& loop);
    Result<void> watch_engine();

    void on_activate() noexcept override;
    void on_kick(unsigned index) noexcept override;
    void on_reset() noexcept override;
    void on_reset_queue(unsigned index) noexcept override;
    void settle() noexcept override;
    void on_state(State& state) override;
    [[nodiscard]] bool on_drain() noexcept override;
    void on_resume() noexcept override { throttled_ = false; }
    void engine_ready() noexcept;
    void finish_orphans() noexcept; // with the lock held, while not active

    // From here on: with the lock held, while active.

    // Taking requests.
    void serve(std::uint64_t queues) noexcept;
    void serve_queue(unsigned index) noexcept;
    Next take_requests(Queue& ring, unsigned index) noexcept;
    bool take(Slot& slot, Queue& ring) noexcept;
    bool throttle(std::uint64_t bytes, std::uint64_t operations) noexcept;
    [[nodiscard]] bool held_back(const Slot& slot) noexcept;
    [[nodiscard]] bool turn_is_over() const noexcept;
    [[nodiscard]] std::uint64_t first_bytes(const BlockRequest& request) const noexcept;
    Slot& take_slot();
    void release(Slot& slot) noexcept;
    void serve_soon() noexcept;

    // Carrying them out.
    void begin(Slot& slot) noexcept;
    void next_step(Slot& slot) noexcept;
    void next_pieces() noexcept;
    /// Bytes of the range's next step that may be done at once, from `done` on.
    [[nodiscard]] std::uint64_t piece(const BlockRange& range, std::uint64_t done) const noexcept;
    void run_engine() noexcept;
    void finish_step(Slot& slot) noexcept;
    void go_on(Slot& slot) noexcept;
    void drop(Slot& slot) noexcept;
    void abandon(std::uint64_t queues) noexcept;
    void cancel(Slot& slot) noexcept;
    void fail(Slot& slot) noexcept;
    void answer(Slot& slot, BlockStatus status) noexcept;
    void signal_touched() noexcept;
    void give_serial(const Slot& slot) const noexcept;
    void count(const BlockRequest& request) noexcept;
    void log_failure(const Slot& slot) noexcept;
    [[nodiscard]] bool present(const BlockRequest& request) noexcept;
    [[nodiscard]] bool writes_through() const noexcept;
    [[nodiscard]] std::byte* status_byte(Slot& slot) noexcept;
    /// Behind an IOMMU the driver may unmap as soon as it likes.
    [[nodiscard]] bool translated() const noexcept { return negotiated(feature::access_platform); }

    BlockOptions options_;
    std::shared_ptr<BlockFile> file_;
    std::unique_ptr<BlockEngine> engine_;
    EventLoop& loop_;
    std::vector<std::uint16_t> queue_sizes_;
    RateLimiter limiter_;
    std::vector<Registration> engine_watches_{};
    Registration timer_{};
    BlockCounters block_counters_{};
    log::Throttle failure_log_{1};

    mutable std::mutex config_mutex_; // guards config_; taken last
    BlockConfig config_;
    std::atomic<bool> writeback_{true}; // the configuration field, when it counts

    // Under the device's lock.
    std::deque<Slot> slots_{};
    std::vector<Slot*> free_slots_{};
    unsigned in_flight_{0};
    std::deque<Slot*> paused_{};     // their next piece waits for the rate limit
    bool pieces_first_{false};       // they and the rings take turns
    std::shared_ptr<Block> alive_{}; // while orphans are under way
    std::uint64_t starved_{0};       // queues with requests we have to come back for
    unsigned next_queue_{0};         // served first, so that a rate limit starves none
    std::uint64_t touched_{0};       // queues with new used buffers
    std::uint64_t budget_{0};        // bytes this turn may still take on
    bool throttled_{false};          // until timer_ fires
    bool posted_{false};             // serve() is on its way
    bool size_known_{false};         // present_size_ is of this turn
    std::uint64_t present_size_{0};
    std::chrono::steady_clock::time_point turn_end_{};

    std::atomic<unsigned> orphans_{0}; // that may touch guest memory; written under the device's lock
};

} // namespace inox::devices::virtio
