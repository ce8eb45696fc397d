// SPDX-License-Identifier: Apache-2.0
// virtio-net (virtio 1.2, 5.1): up to max_pairs queue pairs over a tap, or one over a stream to another process.
//
// A tap or a process that disappears takes the link down; the device looks for it once a second and takes the link up
// again.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/rate_limiter.hpp"
#include "devices/virtio/device.hpp"
#include "devices/virtio/later.hpp"
#include "devices/virtio/net/mac_address.hpp"
#include "devices/virtio/net/options.hpp"
#include "devices/virtio/net/port.hpp"
#include "devices/virtio/net/receiver.hpp"
#include "devices/virtio/serve.hpp"
#include "vmm/base/event_loop.hpp"

namespace inox::devices::virtio {

struct NetCounters {
    std::atomic<std::uint64_t> received{0}; ///< frames given to the guest
    std::atomic<std::uint64_t> received_bytes{0};
    std::atomic<std::uint64_t> received_dropped{0};
    std::atomic<std::uint64_t> sent{0};
    std::atomic<std::uint64_t> sent_bytes{0};
    std::atomic<std::uint64_t> sent_dropped{0}; ///< refused by us or by the host
    std::atomic<std::uint64_t> losses{0};       ///< times the tap, or the process, disappeared
};

/// Drop the last reference on the loop's thread, or when the loop does not run.
class Net final : public Device, public std::enable_shared_from_this<Net> {
public:
    static constexpr std::uint16_t queue_size = 256;

    /// Opens the tap, connects, or starts the process. `loop` must outlive the device. `filter`: every frame of the
    /// guest's passes it; null: none. `patience`: for a process to be ready; without an answer by then it is taken to
    /// be on its way.
    static Result<std::shared_ptr<Net>> create(const NetOptions& options, EventLoop& loop,
                                               std::shared_ptr<NetFilter> filter = {},
                                               std::chrono::milliseconds patience = std::chrono::seconds{3});
    /// The same with a port of the caller's.
    static Result<std::shared_ptr<Net>> create(const NetOptions& options, EventLoop& loop,
                                               std::unique_ptr<NetPort> port, std::shared_ptr<NetFilter> filter = {},
                                               std::chrono::milliseconds patience = {});

    [[nodiscard]] Type type() const override { return Type::net; }
    [[nodiscard]] std::uint64_t features() const override { return features_; }
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;

    [[nodiscard]] const MacAddress& mac() const { return mac_; }
    [[nodiscard]] bool link_up() const { return link_up_; }
    [[nodiscard]] const NetCounters& traffic() const { return traffic_; }
    /// Limits that are given replace those in force. On the loop's thread.
    void update_limits(const RateLimits& receive, const RateLimits& send) noexcept;
    /// The filter has frames for the guest. On the loop's thread.
    void filter_ready() noexcept;

private:
    struct Pair {
        NetReceiver receiver{};
        Registration readable{};
        Registration writable{}; ///< also the timer of a rate limit
        Registration limited{};  ///< receiving waits for its rate limit
        bool paid{false};        ///< the frame that waits for writable was charged
    };
    enum class Next : std::uint8_t { watch, wait };
    enum class Done : std::uint8_t { yes, refused, later };

    Net(const NetOptions& options, EventLoop& loop, std::unique_ptr<NetPort> port, std::shared_ptr<NetFilter> filter);
    Result<void> open(const NetOptions& options, std::chrono::milliseconds patience);

    void on_activate() noexcept override;
    void on_kick(unsigned queue) noexcept override;
    void on_reset() noexcept override;
    void on_reset_queue(unsigned queue) noexcept override;
    void on_state(State& state) override;
    [[nodiscard]] bool on_drain() noexcept override;
    void on_resume() noexcept override;

    // All below: on the loop's thread, with the lock held.
    void start() noexcept;
    [[nodiscard]] unsigned control_queue() const;
    void again(unsigned queue) noexcept;

    void receive(unsigned pair) noexcept;
    Next receive_some(Pair& pair, Queue& queue, unsigned index) noexcept;
    NetReceiver::Outcome next_frame(Pair& pair, Queue& queue, unsigned index) noexcept;
    [[nodiscard]] bool receive_limited(unsigned pair) noexcept;
    void watch(unsigned pair) noexcept;

    void transmit(unsigned pair) noexcept;
    [[nodiscard]] bool send(unsigned pair, Chain& chain) noexcept;
    [[nodiscard]] bool write_frame(unsigned pair, std::size_t bytes) noexcept;
    [[nodiscard]] bool flush(unsigned pair) noexcept;
    [[nodiscard]] bool watch_writable(unsigned pair) noexcept;
    [[nodiscard]] bool send_limited(unsigned pair, std::size_t bytes) noexcept;
    [[nodiscard]] bool offer_to_filter(std::size_t bytes) noexcept;

    void control(unsigned queue) noexcept;
    [[nodiscard]] Done execute(const Chain& chain) noexcept;
    [[nodiscard]] Done change_port(unsigned pairs, std::uint64_t offloads) noexcept;
    void tell_port() noexcept;
    void on_port_open() noexcept;
    void configure_receivers() noexcept;

    void lose_port(int error) noexcept;
    void log_link(const std::string& text) noexcept;
    void look_for_port_later() noexcept;
    void look_for_port() noexcept; // without the lock

    EventLoop& loop_;
    std::unique_ptr<NetPort> port_;
    std::shared_ptr<NetFilter> filter_;
    MacAddress mac_;
    std::uint16_t mtu_{0};
    std::chrono::milliseconds retry_delay_;
    std::uint64_t features_{0};
    std::vector<std::uint16_t> queue_sizes_{};
    std::atomic<bool> link_up_{true};
    std::atomic<bool> announces_{false}; ///< the driver is asked to tell its network where it is
    NetCounters traffic_{};
    RateLimiter receive_limiter_{};
    RateLimiter send_limiter_{};
    std::optional<std::size_t> uncharged_{}; ///< the last frame received: paid for before the next is read

    std::vector<Pair> pairs_; // receivers are also touched by on_reset, on another thread, with the lock
    bool started_{false};     // with the lock: offloads are set for this driver
    unsigned active_pairs_{1};
    std::uint64_t offloads_{0};
    unsigned told_pairs_{1}; ///< what the port knows, since it is open
    std::uint64_t told_offloads_{0};
    TokenBucket changes_;    ///< calls to change the port that a guest may still cause
    TokenBucket link_lines_; ///< of the log, that a port which comes and goes may still cause
    Registration change_later_{};
    Later later_{};
    Chain chain_{};
    NetHeader header_{};
    std::vector<iovec> pieces_{};
    std::vector<std::byte> frame_{}; ///< one frame, for the filter
    bool filter_took_{false};
    Registration retry_{};
};

} // namespace inox::devices::virtio
