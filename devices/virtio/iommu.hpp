// SPDX-License-Identifier: Apache-2.0
// virtio-iommu (virtio 1.3, 5.13): the queues in front of iommu/. It is never behind an IOMMU itself.
//
//   request queue   drivers wait for each answer with interrupts off, so it is served on the vCPU's thread within their
//                   write, and nothing here waits for another vCPU or for I/O. An answer that has to wait for I/O under
//                   way comes later, from the loop; requests behind it go on. What is left after a turn is the work of
//                   a thread of its own: the host may pin for each request, and the loop never waits for that
//   event queue     faults, as long as the driver has given buffers
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "devices/virtio/device.hpp"
#include "devices/virtio/serve.hpp"
#include "iommu/domains.hpp"
#include "iommu/request.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/base/work_thread.hpp"

namespace inox::devices::virtio {

/// Create and destroy it on the loop's thread, or while the loop does not run.
class Iommu final : public Device, public std::enable_shared_from_this<Iommu> {
public:
    /// How long an answer waits for a device's I/O before the I/O is cancelled and the device breaks. Linux's watchdogs
    /// report after 20 seconds.
    static constexpr std::chrono::milliseconds default_patience{5000};

    /// `extension` may be null. All must outlive the device.
    static std::shared_ptr<Iommu> create(iommu::Domains& domains, EventLoop& loop,
                                         iommu::RequestExtension* extension = nullptr,
                                         std::chrono::milliseconds patience = default_patience);
    ~Iommu() override;

    [[nodiscard]] Type type() const override { return Type::iommu; }
    [[nodiscard]] bool serves_at_once() const override { return true; }
    [[nodiscard]] std::uint64_t features() const override;
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    /// `bypass` counts whether or not the driver accepted the feature (5.13.4).
    void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    [[nodiscard]] bool resetting() const noexcept override { return resetting_.load(std::memory_order_acquire) != 0; }

    [[nodiscard]] iommu::Requests::Counts requests() const { return requests_.counts(); }
    /// Faults the driver was told of, and those it gave no buffer for.
    [[nodiscard]] std::uint64_t faults_told() const { return told_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t faults_dropped() const { return dropped_.load(std::memory_order_relaxed); }

private:
    static constexpr std::array<std::uint16_t, 2> queue_sizes_{256, 64};
    static constexpr unsigned request_queue = 0;
    static constexpr unsigned event_queue = 1;
    static constexpr std::size_t most_pending = 64;

    /// An answer that waits for I/O.
    struct Late {
        std::optional<Chain> chain{}; ///< none: a reset
        std::array<std::byte, sizeof(iommu::wire::Tail)> answer{};
        DmaDrain drain{};
        std::chrono::steady_clock::time_point deadline{};
    };

    Iommu(iommu::Domains& domains, EventLoop& loop, iommu::RequestExtension* extension,
          std::chrono::milliseconds patience);
    void on_activate() noexcept override { domains_.driver_ready(); }
    void on_kick(unsigned queue) noexcept override;
    void on_reset() noexcept override;
    void on_state(State& state) override { domains_.state(state); }
    [[nodiscard]] bool on_drain() noexcept override;
    void serve_requests(Turn turn) noexcept;
    bool answer(Queue& ring, Chain& chain) noexcept;
    void answer_later(Late late) noexcept;
    void finish_late(std::uint64_t number) noexcept;
    void watch_late() noexcept;
    void serve_soon() noexcept;
    void serve_rest() noexcept; // by the thread
    using LoopWork = std::move_only_function<void(bool active)>;
    void lock_on_loop(LoopWork work) noexcept;
    void run_on_loop() noexcept;

    void on_fault(const iommu::Fault& fault) noexcept; // any thread
    void tell_driver() noexcept;
    [[nodiscard]] bool tell(Queue& ring, const iommu::Fault& fault) noexcept;

    iommu::Domains& domains_;
    iommu::Requests requests_;
    EventLoop& loop_;
    const std::chrono::milliseconds patience_;
    Chain chain_{};
    iommu::Requests::Answer answer_{};
    std::map<std::uint64_t, Late> late_{};
    std::uint64_t late_count_{0};
    bool watching_{false};               ///< watch_late() will come
    bool full_{false};                   ///< requests wait until fewer answers do
    std::atomic<unsigned> resetting_{0}; ///< resets that wait for I/O
    Registration late_timer_{};          ///< the loop's
    std::deque<LoopWork> loop_work_{};   ///< the loop's: waits for the lock
    Registration loop_work_timer_{};     ///< the loop's
    bool posted_{false};
    std::atomic<std::uint64_t> told_{0};
    std::atomic<std::uint64_t> dropped_{0};
    log::Throttle fault_log_{5};

    std::mutex pending_mutex_; // guards what follows; taken last
    std::vector<iommu::Fault> pending_{};
    bool telling_{false};

    WorkThread thread_{ThreadKind::iommu, "the thread that serves the guest's IOMMU", "iommu-worker"};
    Registration listener_{}; // first to go
};

} // namespace inox::devices::virtio
