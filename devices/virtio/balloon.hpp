// SPDX-License-Identifier: Apache-2.0
// virtio-balloon (virtio 1.2, 5.5): memory the guest does without goes back to the host, at once.
//
// Page frame numbers are guest-physical also behind an IOMMU, so the device never is: give it the guest's memory
// directly. Memory that a host device may write to (VFIO) must not be given back: say so by pin_memory().
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "devices/virtio/balloon_options.hpp"
#include "devices/virtio/balloon_statistics.hpp"
#include "devices/virtio/device.hpp"
#include "devices/virtio/later.hpp"
#include "devices/virtio/serve.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::devices::virtio {

/// Drop the last reference on the loop's thread, or when the loop does not run.
class Balloon final : public Device, public std::enable_shared_from_this<Balloon> {
public:
    /// `loop` and `memory` must outlive the device.
    static Result<std::shared_ptr<Balloon>> create(const BalloonOptions& options, EventLoop& loop,
                                                   const GuestMemory& memory);

    [[nodiscard]] Type type() const override { return Type::balloon; }
    /// 5.5: pages are named by physical address, and Linux takes no balloon that asks for ACCESS_PLATFORM.
    [[nodiscard]] bool translatable() const override { return false; }
    [[nodiscard]] std::uint64_t features() const override { return features_; }
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

    // On the loop's thread.

    /// From now on pages are accepted but kept: a host device may write to them (VFIO).
    void pin_memory() { pinned_ = true; }
    /// Tells the guest a new target, in bytes as in the options.
    Result<void> set_target(std::uint64_t bytes) noexcept;
    [[nodiscard]] std::uint64_t target() const { return std::uint64_t{target_pages_} * page_size; }
    /// What the guest says it has given up.
    [[nodiscard]] std::uint64_t actual() const { return std::uint64_t{actual_pages_} * page_size; }
    /// Bytes given back to the host so far, by any way.
    [[nodiscard]] std::uint64_t released() const { return released_.load(std::memory_order_relaxed); }

    /// The latest; empty before the first report. wrong_state without statistics.
    [[nodiscard]] Result<BalloonStatistics> statistics() const;
    /// wrong_state when that would turn statistics on or off.
    Result<void> set_statistics_interval(std::chrono::seconds interval);

    /// One run of free page hinting: the guest names pages that are free right now, and they go back to the host.
    /// `acknowledge`: end the run when the guest has named all. wrong_state without hinting.
    Result<void> start_hinting(bool acknowledge);
    Result<void> stop_hinting();
    [[nodiscard]] Result<BalloonHinting> hinting() const;

private:
    enum class Role : std::uint8_t { inflate, deflate, statistics, hinting, reporting };

    Balloon(const BalloonOptions& options, EventLoop& loop, const GuestMemory& memory);
    void on_activate() noexcept override;
    void on_kick(unsigned queue) noexcept override;
    void on_reset() noexcept override;
    void on_reset_queue(unsigned queue) noexcept override;
    void on_state(State& state) override;
    [[nodiscard]] bool on_drain() noexcept override;
    void on_resume() noexcept override;

    void assign_roles();
    void statistics_state(State& state);
    void give_report_back() noexcept;
    [[nodiscard]] std::optional<unsigned> index_of(Role role) const;
    [[nodiscard]] bool serve_one(unsigned index, Queue& queue, Chain& chain) noexcept;
    void kick_later(unsigned index) noexcept;
    void inflate(Chain& chain) noexcept;
    void release_pages(std::uint32_t first, std::uint32_t last) noexcept;
    [[nodiscard]] bool release_free(Chain& chain, std::uint64_t& done) noexcept;
    void release(std::span<std::byte> bytes) noexcept;
    [[nodiscard]] bool hint(Chain& chain, std::uint64_t& done) noexcept;
    void set_host_command(std::uint32_t command) noexcept;
    void take_statistics(Queue& queue, Chain& chain) noexcept;
    void ask_statistics() noexcept;
    void schedule_statistics() noexcept;
    [[nodiscard]] Result<void> need(std::uint64_t offered, const char* what) const;

    EventLoop& loop_;
    const GuestMemory& memory_;
    std::atomic<bool> pinned_{false};
    std::uint64_t features_{0};
    std::vector<std::uint16_t> queue_sizes_{};

    // The configuration, read and written by any vCPU.
    std::atomic<std::uint32_t> target_pages_{0};
    std::atomic<std::uint32_t> actual_pages_{0};
    std::atomic<std::uint32_t> host_command_{0};
    std::atomic<std::uint32_t> poison_{0};

    std::atomic<std::uint64_t> released_{0};
    std::chrono::seconds interval_;
    Registration timer_{}; // the loop's thread only
    BalloonStatistics statistics_{};
    std::uint32_t last_run_{1};
    bool acknowledge_{false};
    std::atomic<std::int64_t> guest_command_{-1}; ///< -1 before the first

    // With the lock.
    std::vector<Role> roles_{};         ///< of the queues this driver has
    std::vector<std::uint64_t> done_{}; ///< of each queue's next request, bytes that were given back already
    ChainHead report_{};                ///< the statistics buffer: giving it back asks for a new report
    std::vector<std::uint32_t> pages_{};
    Later later_{};
    Chain chain_{};
};

} // namespace inox::devices::virtio
