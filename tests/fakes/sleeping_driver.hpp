// SPDX-License-Identifier: Apache-2.0
// A driver on a thread of its own that rings and is interrupted only as the rings' rules ask
// (virtio 1.2, 2.7.7, 2.7.10), and sleeps in between: a notification that one side forgets is a driver that sleeps for
// ever, which a test sees.
#pragma once

#include <poll.h>

#include <deque>

#include "devices/virtio/transport.hpp"
#include "tests/fakes/virtqueue_driver.hpp"

namespace inox::fakes {

/// One ring. Every request has the same parts, each a descriptor of its own, and keeps its memory from turn to turn.
class SleepingRing {
public:
    struct Part {
        std::uint32_t length;
        bool write;
    };
    struct Used {
        std::uint16_t request;
        std::uint32_t length;
    };

    SleepingRing(TestRam& ram, std::uint16_t size, bool event_index, const std::vector<Part>& parts);

    devices::virtio::QueueLayout layout{};

    [[nodiscard]] bool full() const { return free_.empty(); }
    [[nodiscard]] std::size_t outstanding() const { return requests_ - free_.size(); }
    /// A request that is free.
    [[nodiscard]] std::uint16_t next() const { return free_.front(); }
    [[nodiscard]] std::uint64_t address(std::uint16_t request, std::uint16_t part = 0) const;
    /// Puts next() into the ring; the device sees it after publish().
    void add();
    /// Whether the device is to be rung.
    bool publish();
    std::optional<Used> take();
    [[nodiscard]] bool more() const { return word(used_, 2).load(std::memory_order_acquire) != seen_; }
    void refuse_interrupts();
    /// For the used buffer after `skip` others. True: the driver may sleep; false: it has that buffer already.
    bool ask_interrupt(std::uint16_t skip = 0);

private:
    static std::byte* bytes(const TestRam& ram, std::uint64_t address, std::uint64_t size);
    static std::atomic_ref<std::uint16_t> word(std::byte* ring, std::size_t offset);

    std::uint16_t size_;
    bool event_index_;
    std::uint16_t parts_;
    std::size_t requests_{};
    std::vector<std::uint64_t> addresses_{};
    std::byte* available_{};
    std::byte* used_{};
    std::deque<std::uint16_t> free_{};
    std::uint16_t next_{0};
    std::uint16_t published_{0};
    std::uint16_t seen_{0};
};

/// The rings of a whole device behind its transport's doorbells.
class SleepingDriver {
public:
    struct Ring {
        std::uint16_t size;
        std::vector<SleepingRing::Part> parts;
    };

    /// Before `loop` runs.
    SleepingDriver(const std::shared_ptr<devices::virtio::Device>& device, EventLoop& loop, std::uint64_t features,
                   const std::vector<Ring>& shape);
    void start();
    SleepingRing& operator[](std::size_t index) { return rings[index]; }
    void publish(unsigned index);
    /// Until an interrupt; false when none came.
    bool sleep(std::chrono::milliseconds limit = std::chrono::seconds{20});

    struct Waker final : devices::virtio::Notifier {
        void used_buffers(unsigned) noexcept override { event.signal(); }
        void config_changed() noexcept override {}
        void needs_reset() noexcept override { broken = true; }
        EventFd event{*EventFd::create()};
        std::atomic<bool> broken{false};
    };

    TestRam ram{16 * MiB};
    Waker notifier{};
    devices::virtio::TransportCore transport;
    std::deque<SleepingRing> rings{};
};

} // namespace inox::fakes
