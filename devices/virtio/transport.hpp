// SPDX-License-Identifier: Apache-2.0
// What virtio-pci and virtio-mmio share: the status machine, feature negotiation and queue set-up (virtio 1.2, 2.1,
// 2.2, 3.1). The two transports are register layouts on top.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "devices/virtio/device.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::iommu {
class Domains;
}

namespace inox::devices::virtio {

namespace status {
inline constexpr std::uint8_t acknowledge = 1;
inline constexpr std::uint8_t driver = 2;
inline constexpr std::uint8_t driver_ok = 4;
inline constexpr std::uint8_t features_ok = 8;
inline constexpr std::uint8_t needs_reset = 0x40;
inline constexpr std::uint8_t failed = 0x80;
} // namespace status

/// What a transport is made with; all of it outlives the transport.
struct TransportContext {
    Irqs& irqs;
    Doorbells& doorbells;
    const DmaMemory& memory;
    EventLoop& loop;
    iommu::Domains* iommu{}; ///< a device on PCI is behind it, if it can be
};

/// Thread-safe: registers are written by any vCPU.
class TransportCore {
public:
    struct QueueState {
        std::uint16_t size{};
        std::uint16_t max_size{};
        std::uint64_t descriptors{};
        std::uint64_t available{};
        std::uint64_t used{};
        bool enabled{};
    };

    /// `notifier` delivers interrupts; both must outlive the transport. `translated`: the device is behind an IOMMU
    /// and must be driven with ACCESS_PLATFORM.
    TransportCore(std::shared_ptr<Device> device, const DmaMemory& memory, Notifier& notifier, bool translated);
    ~TransportCore();
    TransportCore(const TransportCore&) = delete;
    TransportCore& operator=(const TransportCore&) = delete;

    /// Rings the device for each queue's event. On the loop's thread or before it runs.
    Result<void> attach(EventLoop& loop);
    /// What a doorbell for `queue` must signal.
    [[nodiscard]] const EventFd& doorbell(unsigned queue) const { return doorbells_[queue]; }

    [[nodiscard]] Device& device() const { return *device_; }
    [[nodiscard]] unsigned queue_count() const { return static_cast<unsigned>(doorbells_.size()); }

    /// Not 0 before a reset is finished.
    [[nodiscard]] std::uint8_t status() const;
    [[nodiscard]] bool resetting() const noexcept { return device_->resetting(); }
    /// 0 resets; DRIVER_OK activates the device.
    void set_status(std::uint8_t value);
    /// Marks NEEDS_RESET; true when the driver is to be told (it has set DRIVER_OK).
    bool set_needs_reset();

    /// 32 bits of the offered features; `half` 0 or 1, others read as 0.
    [[nodiscard]] std::uint32_t offered(std::uint32_t half) const;
    [[nodiscard]] std::uint32_t accepted(std::uint32_t half) const;
    void accept(std::uint32_t half, std::uint32_t bits);

    /// A copy; all zero for a queue that does not exist.
    [[nodiscard]] QueueState queue(unsigned index) const;
    /// Before the queue is enabled only, ignored otherwise.
    void set_queue(unsigned index, const std::function<void(QueueState&)>& change);
    void enable_queue(unsigned index);
    /// Ring reset (2.6.1), or disabling by virtio-mmio.
    void reset_queue(unsigned index);

    /// With the device, which is active afterwards if it was.
    void state(State& state);

    [[nodiscard]] std::uint8_t config_generation() const { return generation_.load(std::memory_order_acquire); }
    void bump_config_generation() { generation_.fetch_add(1, std::memory_order_release); }

private:
    [[nodiscard]] std::uint64_t all_features() const;
    void activate();    // under mutex_
    void reset_state(); // under mutex_
    [[nodiscard]] static bool usable(const QueueState& queue);
    [[nodiscard]] std::vector<std::optional<Queue>> make_queues() const;
    void queues_state(State& state);
    void check_status(State& state, bool active) const;
    [[nodiscard]] Queue make_queue(const QueueState& state) const;

    std::shared_ptr<Device> device_;
    const DmaMemory& memory_;
    Notifier& notifier_;
    bool translated_;
    std::vector<EventFd> doorbells_;
    std::vector<Registration> watches_;
    std::atomic<std::uint8_t> generation_{0};

    mutable std::mutex mutex_;                // guards all below; taken before the device's lock
    std::atomic<std::uint8_t> status_{0};     // also set without mutex_, by set_needs_reset()
    std::atomic<std::uint8_t> reset_from_{0}; ///< the last status before a reset
    std::uint64_t accepted_{0};
    std::vector<QueueState> queues_;
};

} // namespace inox::devices::virtio
