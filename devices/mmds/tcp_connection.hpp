// SPDX-License-Identifier: Apache-2.0
// The serving end of one TCP connection (RFC 9293) to a guest on the same host. Frames between the two are neither
// reordered nor damaged, and seldom lost: so no congestion control, no reassembly; what is lost is sent again.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "devices/mmds/packet.hpp"
#include "devices/mmds/responder.hpp"

namespace inox::devices::mmds {

/// Pure but for the answers it asks for. Time only grows.
class TcpConnection {
public:
    using Time = std::chrono::steady_clock::time_point;
    static constexpr std::size_t max_request = 4096;
    static constexpr unsigned max_tries = 7;
    static constexpr std::chrono::milliseconds first_wait{200}; ///< for an acknowledgement; doubles at each try
    static constexpr std::uint16_t largest_segment = 1460;

    /// `syn` opens it; `initial` is our first sequence number.
    TcpConnection(const Host& peer, const Segment& syn, std::uint32_t initial);

    using Answer = std::function<Reply(std::string_view request)>;
    /// A segment of this connection. Whole requests are answered, one after another.
    void receive(const Segment& segment, Time now, const Answer& answer);
    /// The next segment to send; its payload lives until the next call. nullopt when there is none.
    std::optional<Segment> next(Time now);
    /// When tick() has something to do; nullopt when nothing is awaited.
    [[nodiscard]] std::optional<Time> deadline() const { return deadline_; }
    void tick(Time now);

    [[nodiscard]] bool is_with(const Host& peer, const Segment& segment) const {
        return peer.address == peer_.address && segment.source_port == peer_port_;
    }
    /// Whether this SYN is a copy of the one that opened the connection.
    [[nodiscard]] bool opened_by(const Segment& syn) const { return syn.sequence + 1 == first_received_; }
    [[nodiscard]] const Host& peer() const { return peer_; }
    void touch(Time now) { last_used_ = now; }
    [[nodiscard]] Time last_used() const { return last_used_; }
    /// Nothing more to send or to receive: it can be forgotten.
    [[nodiscard]] bool over() const { return over_; }

private:
    void take_acknowledgement(const Segment& segment, Time now);
    void take_data(const Segment& segment);
    void serve(const Answer& answer);
    void fail();
    void wait_for_acknowledgement(Time now);
    [[nodiscard]] bool all_acknowledged() const { return out_done_ == out_.size(); }
    [[nodiscard]] bool ended() const { return peer_closed_ && fin_acknowledged_ && !acknowledge_; }
    [[nodiscard]] Segment segment(std::uint8_t flags, std::uint32_t sequence) const;

    Host peer_;
    std::uint16_t port_;
    std::uint16_t peer_port_;
    std::uint16_t segment_size_;

    // What the guest sends.
    std::uint32_t first_received_; ///< after its SYN
    std::uint32_t expected_;
    std::string in_{};
    bool peer_closed_{false};
    bool acknowledge_{false};

    // What we send: out_ from out_done_ on is not acknowledged; its first byte has the number acknowledged_.
    std::uint32_t initial_;
    std::uint32_t acknowledged_;
    std::string out_{};
    std::size_t out_done_{0};
    std::size_t sent_{0};     ///< of out_, behind out_done_: on its way
    std::size_t furthest_{0}; ///< the most sent_ ever was, with the FIN: what may be acknowledged
    std::uint32_t window_;
    bool synchronised_{false}; ///< our SYN is acknowledged
    bool send_syn_{true};
    bool close_{false}; ///< a FIN follows out_
    bool fin_sent_{false};
    bool fin_acknowledged_{false};
    bool probe_{false}; ///< one byte, to learn whether the window is open again
    bool send_reset_{false};
    bool over_{false};

    std::optional<Time> deadline_{};
    unsigned tries_{0};
    Time last_used_{};
};

} // namespace inox::devices::mmds
