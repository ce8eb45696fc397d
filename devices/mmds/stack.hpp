// SPDX-License-Identifier: Apache-2.0
// The metadata service as a host on the guest's network: frames in, frames out.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/mmds/tcp_connection.hpp"

namespace inox::devices::mmds {

/// Holds at most max_connections and a handful of short answers, whatever it is sent.
class Stack {
public:
    using Time = TcpConnection::Time;
    static constexpr std::size_t max_connections = 16;
    static constexpr std::uint16_t http_port = 80;
    /// Room for the largest frame it sends.
    static constexpr std::size_t frame_size = tcp_frame_size(TcpConnection::largest_segment);
    /// Firecracker's.
    static constexpr virtio::MacAddress mac{{0x06, 0x01, 0x23, 0x45, 0x67, 0x01}};

    /// `sequence` gives the first sequence numbers.
    Stack(Ipv4 address, const Responder& responder, std::function<std::uint32_t()> sequence);

    /// Whether a frame with this beginning is for us; its first 42 bytes tell.
    [[nodiscard]] bool wants(std::span<const std::byte> head) const { return is_for(head, self_.address); }
    /// A frame that is for us; what is not well-formed is dropped.
    void take(std::span<const std::byte> frame, Time now);
    /// The next frame to the guest, into at least frame_size bytes; 0 when there is none.
    std::size_t next(std::span<std::byte> frame, Time now);
    /// When next() may have something without a frame from the guest; nullopt for never.
    [[nodiscard]] std::optional<Time> deadline() const;

    [[nodiscard]] std::size_t connections() const { return connections_.size(); }

private:
    struct Refusal {
        Host to;
        Segment segment;
    };
    static constexpr std::size_t max_refusals = 8;

    void take_segment(const Host& from, const Segment& segment, Time now);
    void open(const Host& from, const Segment& syn, Time now);
    void refuse(const Host& to, const Segment& segment);

    Host self_;
    Responder responder_;
    std::function<std::uint32_t()> sequence_;
    std::optional<Host> asked_{}; ///< by ARP; the last one only
    std::vector<Refusal> refusals_{};
    std::vector<std::unique_ptr<TcpConnection>> connections_{};
    std::size_t turn_{0}; ///< whose turn it is to send
};

} // namespace inox::devices::mmds
