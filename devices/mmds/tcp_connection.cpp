// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/tcp_connection.hpp"

#include <algorithm>

namespace inox::devices::mmds {
namespace {

constexpr std::uint16_t smallest_segment = 64; // less would split an answer into very many frames
constexpr std::uint16_t default_segment = 536; // RFC 9293, 3.7.1

/// Signed distance between two sequence numbers.
std::int32_t distance(std::uint32_t from, std::uint32_t to) { return static_cast<std::int32_t>(to - from); }

} // namespace

TcpConnection::TcpConnection(const Host& peer, const Segment& syn, std::uint32_t initial)
    : peer_{peer}, port_{syn.destination_port}, peer_port_{syn.source_port},
      segment_size_{std::clamp(syn.largest.value_or(default_segment), smallest_segment, largest_segment)},
      first_received_{syn.sequence + 1}, expected_{syn.sequence + 1}, initial_{initial},
      acknowledged_{initial}, window_{syn.window} {}

void TcpConnection::fail() {
    send_reset_ = true;
    deadline_.reset();
}

void TcpConnection::receive(const Segment& segment, Time now, const Answer& answer) {
    last_used_ = now;
    if (over_ || send_reset_)
        return;
    if (segment.has(tcp_flag::rst)) {
        // Only a reset with the expected number counts. Any other is answered, which tells its sender (RFC 5961, 3.2).
        over_ = segment.sequence == expected_;
        acknowledge_ = true;
        return;
    }
    if (segment.has(tcp_flag::syn)) {
        (synchronised_ ? acknowledge_ : send_syn_) = true;
        return;
    }
    if (!segment.has(tcp_flag::ack))
        return;
    if (!synchronised_) {
        if (segment.acknowledgement != initial_ + 1)
            return fail();
        synchronised_ = true;
        send_syn_ = false;
        acknowledged_ = initial_ + 1;
        deadline_.reset();
        tries_ = 0;
    }
    take_acknowledgement(segment, now);
    take_data(segment);
    serve(answer);
    over_ = ended();
}

void TcpConnection::take_acknowledgement(const Segment& segment, Time now) {
    const std::int32_t signed_count = distance(acknowledged_, segment.acknowledgement);
    if (signed_count < 0)
        return; // acknowledged before
    const auto count = static_cast<std::size_t>(signed_count);
    if (count > furthest_) {
        acknowledge_ = true; // acknowledges what was never sent
        return;
    }
    window_ = segment.window;
    if (count == 0)
        return;
    const std::size_t bytes = std::min(count, out_.size() - out_done_);
    out_done_ += bytes;
    sent_ -= std::min(sent_, bytes);
    furthest_ -= count;
    acknowledged_ += static_cast<std::uint32_t>(count);
    if (count > bytes)
        fin_sent_ = fin_acknowledged_ = true;
    if (all_acknowledged()) {
        out_.clear();
        out_done_ = 0;
    }
    tries_ = 0;
    deadline_.reset();
    if (sent_ != 0 || (fin_sent_ && !fin_acknowledged_))
        wait_for_acknowledgement(now);
}

void TcpConnection::take_data(const Segment& segment) {
    const std::size_t size = segment.payload.size();
    const bool fin = segment.has(tcp_flag::fin);
    if (size == 0 && !fin)
        return;
    acknowledge_ = true; // in any case, so that the guest learns what is expected
    const std::int32_t known = distance(segment.sequence, expected_);
    if (peer_closed_ || known < 0 || static_cast<std::size_t>(known) > size)
        return;
    const auto fresh = segment.payload.subspan(static_cast<std::size_t>(known));
    const std::size_t room = std::min(fresh.size(), max_request - in_.size());
    for (const std::byte byte : fresh.first(room))
        in_ += static_cast<char>(byte);
    expected_ += static_cast<std::uint32_t>(room);
    if (fin && room == fresh.size()) {
        ++expected_;
        peer_closed_ = true;
    }
}

/// One answer at a time: the next request is served when the guest has acknowledged all of the last answer.
void TcpConnection::serve(const Answer& answer) {
    while (all_acknowledged() && !close_) {
        const auto length = request_length(in_);
        if (!length && in_.size() < max_request) {
            close_ = peer_closed_; // the rest is no whole request and never will be
            return;
        }
        Reply reply = length ? answer(std::string_view{in_}.substr(0, *length)) : Responder::too_large();
        in_.erase(0, length.value_or(in_.size()));
        out_ = std::move(reply.bytes);
        close_ = reply.close;
        acknowledge_ = true; // announces the larger window
    }
}

Segment TcpConnection::segment(std::uint8_t flags, std::uint32_t sequence) const {
    return {.source_port = port_,
            .destination_port = peer_port_,
            .sequence = sequence,
            .acknowledgement = expected_,
            .flags = static_cast<std::uint8_t>(flags | tcp_flag::ack),
            .window = static_cast<std::uint16_t>(max_request - in_.size())};
}

std::optional<Segment> TcpConnection::next(Time now) {
    if (over_)
        return std::nullopt;
    const std::uint32_t at =
        acknowledged_ + static_cast<std::uint32_t>(sent_ + (fin_sent_ && !fin_acknowledged_ ? 1 : 0));
    if (send_reset_) {
        over_ = true;
        return segment(tcp_flag::rst, synchronised_ ? at : initial_ + 1);
    }
    if (!synchronised_) {
        if (!send_syn_)
            return std::nullopt;
        send_syn_ = false;
        wait_for_acknowledgement(now);
        Segment syn = segment(tcp_flag::syn, initial_);
        syn.largest = largest_segment;
        return syn;
    }
    const std::size_t left = out_.size() - out_done_ - sent_;
    const std::size_t room = window_ > sent_ ? window_ - sent_ : probe_ && sent_ == 0 ? 1 : 0;
    if (const std::size_t size = std::min({left, room, std::size_t{segment_size_}}); size != 0) {
        Segment data = segment(size == left ? tcp_flag::psh : 0, at);
        data.payload = std::as_bytes(std::span{out_}.subspan(out_done_ + sent_, size));
        sent_ += size;
        furthest_ = std::max(furthest_, sent_);
        probe_ = acknowledge_ = false;
        if (!deadline_)
            wait_for_acknowledgement(now);
        return data;
    }
    if (left != 0 && !deadline_)
        wait_for_acknowledgement(now); // the window is closed: sends a probe later
    if (left == 0 && close_ && !fin_sent_) {
        fin_sent_ = true;
        furthest_ = std::max(furthest_, sent_ + 1);
        acknowledge_ = false;
        wait_for_acknowledgement(now);
        return segment(tcp_flag::fin, at);
    }
    if (!acknowledge_)
        return std::nullopt;
    acknowledge_ = false;
    over_ = ended();
    return segment(0, at);
}

void TcpConnection::wait_for_acknowledgement(Time now) { deadline_ = now + first_wait * (1U << tries_); }

void TcpConnection::tick(Time now) {
    if (!deadline_ || now < *deadline_)
        return;
    if (++tries_ >= max_tries)
        return fail();
    // Everything in flight is considered lost.
    deadline_.reset();
    sent_ = 0;
    fin_sent_ = fin_acknowledged_;
    probe_ = window_ == 0;
    send_syn_ = !synchronised_;
    wait_for_acknowledgement(now);
}

} // namespace inox::devices::mmds
