// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/stack.hpp"

#include <algorithm>
#include <utility>

namespace inox::devices::mmds {

Stack::Stack(Ipv4 address, const Responder& responder, std::function<std::uint32_t()> sequence)
    : self_{mac, address}, responder_{responder}, sequence_{std::move(sequence)} {}

void Stack::take(std::span<const std::byte> frame, Time now) {
    if (const auto host = parse_arp_request(frame, self_.address))
        asked_ = host;
    else if (const auto received = parse_segment(frame, self_.address))
        take_segment(received->from, received->segment, now);
}

void Stack::take_segment(const Host& from, const Segment& segment, Time now) {
    const bool opens = segment.has(tcp_flag::syn) && !segment.has(tcp_flag::ack | tcp_flag::rst);
    const auto known = std::ranges::find_if(connections_, [&](const auto& one) { return one->is_with(from, segment); });
    if (segment.destination_port != http_port)
        return refuse(from, segment);
    if (known == connections_.end())
        return opens ? open(from, segment, now) : refuse(from, segment);
    if (opens && !(*known)->opened_by(segment)) {
        // The guest has forgotten the old connection and uses its port again.
        connections_.erase(known);
        return open(from, segment, now);
    }
    (*known)->receive(segment, now, [&](std::string_view request) { return responder_.answer(request, now); });
}

void Stack::open(const Host& from, const Segment& syn, Time now) {
    if (connections_.size() == max_connections) {
        const auto oldest =
            std::ranges::min_element(connections_, {}, [](const auto& one) { return one->last_used(); });
        connections_.erase(oldest);
    }
    connections_.push_back(std::make_unique<TcpConnection>(from, syn, sequence_()));
    connections_.back()->touch(now);
}

/// A reset that its receiver accepts (RFC 9293, 3.5.2).
void Stack::refuse(const Host& to, const Segment& segment) {
    if (segment.has(tcp_flag::rst) || refusals_.size() == max_refusals)
        return;
    Segment reset{.source_port = segment.destination_port, .destination_port = segment.source_port};
    if (segment.has(tcp_flag::ack)) {
        reset.sequence = segment.acknowledgement;
        reset.flags = tcp_flag::rst;
    } else {
        reset.acknowledgement = segment.sequence + static_cast<std::uint32_t>(segment.payload.size()) +
                                (segment.has(tcp_flag::syn) ? 1 : 0) + (segment.has(tcp_flag::fin) ? 1 : 0);
        reset.flags = tcp_flag::rst | tcp_flag::ack;
    }
    refusals_.push_back({to, reset});
}

std::size_t Stack::next(std::span<std::byte> frame, Time now) {
    if (const auto host = std::exchange(asked_, std::nullopt))
        return write_arp_reply(frame, self_, *host);
    if (!refusals_.empty()) {
        const Refusal refusal = refusals_.back();
        refusals_.pop_back();
        return write_segment(frame, self_, refusal.to, refusal.segment);
    }
    std::size_t size = 0;
    for (std::size_t tried = 0; tried < connections_.size() && size == 0; ++tried) {
        auto& connection = *connections_[turn_++ % connections_.size()];
        connection.tick(now);
        if (const auto segment = connection.next(now))
            size = write_segment(frame, self_, connection.peer(), *segment);
    }
    std::erase_if(connections_, [](const auto& one) { return one->over(); });
    return size;
}

std::optional<Stack::Time> Stack::deadline() const {
    std::optional<Time> first;
    for (const auto& connection : connections_)
        if (const auto one = connection->deadline(); one && (!first || *one < *first))
            first = one;
    return first;
}

} // namespace inox::devices::mmds
