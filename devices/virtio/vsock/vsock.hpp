// SPDX-License-Identifier: Apache-2.0
// virtio-vsock (virtio 1.2, 5.10) with Firecracker's host side:
//
//   host to guest: a program connects to the unix socket at `uds_path`, writes "CONNECT <port>\n", reads "OK <port>\n"
//   guest to host: a connection to CID 2, port n, arrives at a unix socket that a program listens at, `uds_path`_n
//
// Payload goes between rings and sockets without a copy of ours; only what a slow host program has not read yet is held
// here, as much as its connection's credit allows.
#pragma once

#include <chrono>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "devices/virtio/device.hpp"
#include "devices/virtio/later.hpp"
#include "devices/virtio/serve.hpp"
#include "devices/virtio/vsock/connection.hpp"
#include "devices/virtio/vsock/listener.hpp"
#include "devices/virtio/vsock/options.hpp"
#include "devices/virtio/vsock/packet.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/base/log.hpp"

namespace inox::devices::virtio {

struct VsockCounters {
    std::atomic<std::uint64_t> to_guest_bytes{0};
    std::atomic<std::uint64_t> to_host_bytes{0};
    std::atomic<std::uint64_t> opened{0};        ///< but for those of the guest's that are refused
    std::atomic<std::uint64_t> refused{0};       ///< nobody listens, or as below
    std::atomic<std::uint64_t> refused_limit{0}; ///< there are as many as descriptors allow
    std::atomic<std::uint64_t> open{0};
};

/// Connections do not outlive a save and a restore: the driver is told (5.10.6.6) and ends them, and those of before
/// are answered with a reset. A machine that goes on after a save keeps them.
///
/// Drop the last reference on the loop's thread, or when the loop does not run.
class Vsock final : public Device, public std::enable_shared_from_this<Vsock> {
public:
    /// Connections, those that greet and those whose last bytes a host program has not read included; fewer where the
    /// process may not have the descriptors (limit()).
    static constexpr std::size_t max_connections = 1023;
    static constexpr std::size_t max_greetings = 64;

    /// Listens at uds_path. `loop` must outlive the device.
    static Result<std::shared_ptr<Vsock>> create(const VsockOptions& options, EventLoop& loop);

    [[nodiscard]] Type type() const override { return Type::vsock; }
    [[nodiscard]] std::uint64_t features() const override { return 0; }
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;

    [[nodiscard]] const VsockCounters& traffic() const { return traffic_; }
    /// Of connections, by the limit on descriptors when the device was made.
    [[nodiscard]] std::size_t limit() const { return limit_; }

private:
    static constexpr std::array<std::uint16_t, 3> queue_sizes_{256, 256, 16};

    /// A host program that has not said yet where it wants to connect.
    struct Greeting {
        UniqueFd socket;
        std::string line{};
        Registration readable{};
    };
    using Connections = std::map<VsockPorts, VsockConnection>;
    /// All that a reset takes away.
    struct Streams {
        std::map<std::uint64_t, Greeting> greetings{}; // oldest first
        Connections connections{};
        std::list<Connections::node_type> draining{}; // the guest is done; oldest first
    };
    /// As whom the guest's packet was sent to, or its driver does not know the answer.
    struct Reset {
        VsockPorts ports{};
        std::uint64_t from{vsock_host_cid};
        std::uint16_t type{vsock_stream};
    };
    enum class Fed : std::uint8_t { more, idle, no_buffers, broken };

    Vsock(const VsockOptions& options, EventLoop& loop, VsockListener listener);

    void on_activate() noexcept override;
    void on_kick(unsigned queue) noexcept override;
    void on_reset() noexcept override;
    void on_state(State& state) override;
    [[nodiscard]] bool on_drain() noexcept override;
    void on_resume() noexcept override;

    // All below: on the loop's thread, with the lock held.

    // Life (vsock.cpp).
    void start() noexcept;
    void again(unsigned queue) noexcept;
    [[nodiscard]] bool make_room() noexcept;
    void note_full() noexcept;
    VsockConnection* add(VsockPorts ports, VsockFlow::Origin origin, UniqueFd socket) noexcept;
    [[nodiscard]] VsockConnection* find(VsockPorts ports, std::uint64_t id) noexcept;
    void retire(VsockConnection& connection) noexcept;
    void forget_all() noexcept;
    void count_open() noexcept;
    void serve_events() noexcept;
    [[nodiscard]] bool tell_restored(Queue& ring) noexcept;

    // Host programs (host.cpp).
    void listen() noexcept;
    [[nodiscard]] bool accept_some() noexcept;
    void greet(UniqueFd socket) noexcept;
    [[nodiscard]] Result<Registration> watch_greeting(std::uint64_t id, const UniqueFd& socket);
    void on_greeting(std::uint64_t id) noexcept;
    void open_from_host(UniqueFd socket, std::uint32_t guest_port) noexcept;
    [[nodiscard]] bool await_dial(VsockConnection& connection, UniqueFd answer) noexcept;
    void on_dialled(VsockConnection& connection, bool connected) noexcept;
    void begin_stream(VsockConnection& connection, bool connected) noexcept;
    void refuse(VsockConnection& connection) noexcept;
    void start_deadline(VsockConnection& connection) noexcept;
    void on_request_timeout(VsockConnection& connection) noexcept;
    [[nodiscard]] bool watch_readable(VsockConnection& connection) noexcept;
    [[nodiscard]] bool watch_writable(VsockConnection& connection) noexcept;
    void on_writable(VsockConnection& connection) noexcept;
    void host_ended(VsockConnection& connection, int result) noexcept;
    [[nodiscard]] std::uint32_t free_host_port() noexcept;

    // Packets (traffic.cpp).
    void transmit() noexcept;
    [[nodiscard]] bool on_packet(Chain& chain) noexcept;
    void dispatch(const VsockHeader& header, Chain& chain) noexcept;
    void act(VsockConnection& connection, VsockFlow::Event event, const VsockHeader& header, Chain& chain) noexcept;
    void open_from_guest(VsockPorts ports, const VsockHeader& header, Chain& chain) noexcept;
    void take_data(VsockConnection& connection, std::uint32_t bytes, Chain& chain) noexcept;
    void answer_reset(const Reset& reset) noexcept;

    void feed() noexcept;
    void feed_on() noexcept;
    [[nodiscard]] Fed feed_next(Queue& queue) noexcept;
    [[nodiscard]] Fed feed_control(Queue& queue, VsockConnection& connection) noexcept;
    [[nodiscard]] Fed feed_data(Queue& queue, VsockConnection& connection) noexcept;
    [[nodiscard]] Fed take_buffer(Queue& queue, Chain& chain) noexcept;
    [[nodiscard]] std::size_t take_buffers(Queue& queue, std::uint32_t room) noexcept;
    void fill(Queue& queue, VsockConnection& connection, std::size_t buffers, std::size_t bytes) noexcept;
    [[nodiscard]] VsockHeader header_for(VsockPorts ports, VsockOp operation, std::uint32_t length) const noexcept;
    void enqueue(VsockConnection& connection) noexcept;
    void enqueue_if_due(VsockConnection& connection) noexcept;
    void dequeue(VsockConnection& connection) noexcept;

    EventLoop& loop_;
    VsockListener listener_;
    std::uint64_t guest_cid_;
    std::chrono::milliseconds request_timeout_;
    std::size_t limit_;
    VsockCounters traffic_{};
    log::Throttle told_full_{1};
    Registration listening_{};
    Registration listen_later_{};

    Streams streams_{};
    std::list<VsockConnection*> ready_{}; // have something for the guest, next first
    std::deque<Reset> resets_{};          // answers that belong to no connection
    bool blocked_{false};                 // packets of the guest wait until resets_ is shorter
    bool untold_{false};                  // the driver has to hear that its connections are gone
    bool waits_for_driver_{false};        // nothing is fed until it has heard: it could end new connections, too
    std::uint64_t next_id_{0};
    std::uint32_t next_host_port_{0};
    Turn turn_{}; ///< of the kick or event that is at work
    Later later_{};
    Chain sent_{};
    std::vector<Chain> buffers_{};
    std::vector<iovec> pieces_{};
};

} // namespace inox::devices::virtio
