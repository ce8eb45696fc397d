// SPDX-License-Identifier: Apache-2.0
// A virtio device without its transport: what it is, its configuration, and the work on its queues.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/virtio/queue.hpp"
#include "vmm/base/log.hpp"
#include "vmm/bus/stateful.hpp"

namespace inox::devices::virtio {

/// Device types (virtio 1.2, 5).
enum class Type : std::uint16_t {
    net = 1,
    block = 2,
    console = 3,
    entropy = 4,
    balloon = 5,
    vsock = 19,
    iommu = 23,
    fs = 26,
};

namespace feature {
inline constexpr std::uint64_t bit(unsigned number) { return std::uint64_t{1} << number; }
inline constexpr std::uint64_t indirect = bit(28);
inline constexpr std::uint64_t event_index = bit(29);
inline constexpr std::uint64_t version_1 = bit(32);
inline constexpr std::uint64_t access_platform = bit(33);
inline constexpr std::uint64_t ring_reset = bit(40);
} // namespace feature

/// How the transport reaches the driver. Any thread.
class Notifier {
public:
    Notifier() = default;
    Notifier(const Notifier&) = delete;
    Notifier& operator=(const Notifier&) = delete;
    virtual ~Notifier() = default;
    virtual void used_buffers(unsigned queue) noexcept = 0;
    virtual void config_changed() noexcept = 0;
    /// The device cannot go on until the driver resets it (virtio 1.2, 2.1.2).
    virtual void needs_reset() noexcept = 0;
};

/// What operators see of a device.
struct Counters {
    std::atomic<std::uint64_t> kicks{0};
    std::atomic<std::uint64_t> interrupts{0};
    std::atomic<std::uint64_t> broken_rings{0};
    std::atomic<std::uint64_t> bad_requests{0}; ///< answered with an error, the ring is fine
};

/// One lock serialises activation, kicks, resets and the device's own events: on_* are called with it held. Kicks come
/// on the device loop (but see serves_at_once()); activation and reset on a vCPU thread. A device must not wait for a
/// vCPU while it holds the lock.
class Device : public Stateful {
public:
    explicit Device(std::string name) : name_{std::move(name)} {}

    /// For people: "disk0 (virtio-blk)".
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] virtual Type type() const = 0;
    /// False: guest memory is reached other than by memory(), so that no IOMMU can stand in between.
    [[nodiscard]] virtual bool translatable() const { return true; }
    /// True: drivers wait for a request's answer with interrupts off, so it is served on the vCPU's thread, while the
    /// driver's write is under way, and no other thread has to wake for it. virtio-pci only.
    [[nodiscard]] virtual bool serves_at_once() const { return false; }
    /// Device-specific bits only; the transport adds those of rings and transport.
    [[nodiscard]] virtual std::uint64_t features() const = 0;
    /// One entry a queue: the largest size, a power of two.
    [[nodiscard]] virtual std::span<const std::uint16_t> queue_sizes() const = 0;
    /// Device-specific configuration; any offset and width. Any thread, without the lock.
    virtual void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept = 0;
    virtual void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept {
        (void)offset, (void)data;
    }

    /// Who hears of a device that stops because a ring is broken or its server failed, with the reason: on any thread,
    /// with the lock held, within the log's limits. Before the device is used.
    void on_broken(std::function<void(const char* reason)> tell) { on_broken_ = std::move(tell); }

    // For the transport.

    /// DRIVER_OK. `queues` has one entry a queue; those the driver left disabled are empty.
    void activate(const DmaMemory& memory, std::vector<std::optional<Queue>> queues, std::uint64_t features,
                  Notifier& notifier) noexcept;
    /// After it returns the device touches no guest memory, unless it is resetting(). Safe when not active.
    void reset() noexcept;
    /// A reset, of the device or of a queue, is not done: what it ended is still under way, in another process or in
    /// the host's storage, and may touch guest memory. The driver must see it so: status (2.1.2) and queue_reset
    /// (2.6.1) read as not finished. Any thread, without the lock.
    [[nodiscard]] virtual bool resetting() const noexcept { return false; }
    /// The driver reset one queue (2.6.1): it is forgotten. As reset() for what it had taken from the queue.
    void reset_queue(unsigned queue) noexcept;
    /// The driver enabled a queue after DRIVER_OK (2.6.1).
    void enable_queue(unsigned index, const Queue& fresh) noexcept;
    /// The device was active when it was saved: as activate(), but it is at rest until resume(). state() follows.
    void restore(const DmaMemory& memory, std::vector<std::optional<Queue>> queues, std::uint64_t features,
                 Notifier& notifier) noexcept;
    /// The rings' places, then on_state().
    void state(State& state) final;
    [[nodiscard]] bool drain() noexcept final;
    void resume() noexcept final;
    /// The driver rang. On the device loop, or on a vCPU's thread if serves_at_once(); ignored while not active.
    void kick(unsigned queue) noexcept;

    [[nodiscard]] const Counters& counters() const { return counters_; }
    /// Any thread; waits for nobody.
    [[nodiscard]] bool active() const { return active_.load(std::memory_order_acquire); }

protected:
    virtual void on_activate() noexcept {}
    virtual void on_kick(unsigned queue) noexcept = 0;
    /// Stop everything that may touch guest memory; what cannot be stopped at once is resetting().
    virtual void on_reset() noexcept {}
    /// The same for one queue; the queue is gone when it returns.
    virtual void on_reset_queue(unsigned queue) noexcept { (void)queue; }
    /// The device's own fields, also while it is not active. Restoring: as Stateful::state(), and before on_resume().
    virtual void on_state(State& state) = 0;
    /// While active and at rest: whether all that was taken from the rings is given back. Taking nothing more is the
    /// base's work for kicks and locked(), and the device's for all else.
    [[nodiscard]] virtual bool on_drain() noexcept { return true; }
    /// While active, before every queue is kicked. On the loop's thread.
    virtual void on_resume() noexcept {}
    /// After either reset, without the lock: wait until nothing is resetting(), but not for long.
    virtual void settle() noexcept {}

    /// For the device's own events (a packet, a finished read): runs `work` with the lock when active and not at rest.
    template <class F> void locked(F&& work) noexcept {
        std::lock_guard lock{mutex_};
        if (active_ && !at_rest_)
            work();
    }

    /// For operators' changes: runs `work(active)` with the lock.
    template <class F> void with_lock(F&& work) noexcept {
        std::lock_guard lock{mutex_};
        work(active_);
    }

    /// The same where the lock is free; false where somebody has it.
    template <class F> [[nodiscard]] bool try_with_lock(F&& work) noexcept {
        const std::unique_lock lock{mutex_, std::try_to_lock};
        if (lock)
            work(active_);
        return lock.owns_lock();
    }

    // With the lock held, while active.
    [[nodiscard]] Queue* queue(unsigned index) {
        return index < queues_.size() && queues_[index] ? &*queues_[index] : nullptr;
    }
    [[nodiscard]] std::uint64_t negotiated_features() const { return negotiated_; }
    [[nodiscard]] bool negotiated(std::uint64_t bits) const { return (negotiated_ & bits) == bits; }
    [[nodiscard]] const DmaMemory& memory() const { return *memory_; }
    /// drain() was called, and resume() not yet.
    [[nodiscard]] bool at_rest() const { return at_rest_; }
    /// For on_resume(): the driver knows this device from before a restore.
    [[nodiscard]] bool restored() const { return restored_; }
    /// The driver broke a ring: no work until it resets the device. Kicks look at this themselves.
    [[nodiscard]] bool stopped() const { return stopped_broken_; }
    /// Interrupts the driver if it wants to know of what was pushed.
    void signal(unsigned index) noexcept;
    /// Interrupts the driver for a ring that somebody else serves.
    void notify(unsigned index) noexcept;
    void config_changed() noexcept;
    /// The ring cannot be trusted any more: the device stops until the driver resets it.
    void stop_broken(const char* reason) noexcept;
    /// The same when not the driver is at fault but what serves the device.
    void stop_failed(const char* reason) noexcept;
    /// A request the device answers with an error: counted, logged within limits.
    void note_bad_request(const char* reason) noexcept;
    Counters counters_{};

private:
    void look_at(unsigned index) noexcept;
    void stop(const char* fault, const char* reason) noexcept;

    std::function<void(const char*)> on_broken_{};
    std::string name_;
    std::mutex mutex_;                // guards all below
    std::atomic<bool> active_{false}; ///< read without it, too
    bool stopped_broken_{false};
    bool at_rest_{false};
    bool restored_{false}; ///< resume() has not come yet
    std::vector<std::optional<Queue>> queues_{};
    std::uint64_t negotiated_{};
    const DmaMemory* memory_{};
    Notifier* notifier_{};
    log::Throttle limiter_{1};
};

} // namespace inox::devices::virtio
