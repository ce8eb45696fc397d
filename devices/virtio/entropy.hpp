// SPDX-License-Identifier: Apache-2.0
// virtio-rng (virtio 1.2, 5.4): the host's random bytes, straight into the guest's buffers.
#pragma once

#include <memory>
#include <string>

#include "devices/rate_limiter.hpp"
#include "devices/virtio/device.hpp"
#include "devices/virtio/entropy_options.hpp"
#include "devices/virtio/serve.hpp"
#include "vmm/base/event_loop.hpp"

namespace inox::devices::virtio {

/// Drop the last reference on the loop's thread, or when the loop does not run.
class Entropy final : public Device, public std::enable_shared_from_this<Entropy> {
public:
    /// A request gets no more than this at once; drivers ask again.
    static constexpr std::uint64_t max_bytes = 64 * 1024;

    /// `loop` must outlive the device.
    static Result<std::shared_ptr<Entropy>> create(const EntropyOptions& options, EventLoop& loop);

    [[nodiscard]] Type type() const override { return Type::entropy; }
    [[nodiscard]] std::uint64_t features() const override { return 0; }
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;

    [[nodiscard]] std::uint64_t bytes_given() const { return given_.load(std::memory_order_relaxed); }

private:
    static constexpr std::array<std::uint16_t, 1> queue_sizes_{256};

    Entropy(const EntropyOptions& options, EventLoop& loop);
    void on_kick(unsigned queue) noexcept override;
    void on_state(State& state) override;
    [[nodiscard]] bool serve_one(Queue& queue, Chain& chain) noexcept;
    void again(std::chrono::nanoseconds delay) noexcept;

    EventLoop& loop_;
    RateLimiter limiter_;
    std::atomic<std::uint64_t> given_{0};
    Chain chain_{};
    Registration timer_{}; // the loop's thread only
};

} // namespace inox::devices::virtio
