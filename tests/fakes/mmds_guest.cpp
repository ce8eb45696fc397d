// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/mmds_guest.hpp"

namespace inox::fakes {

FakeMetadata::Answer FakeMetadata::read(std::string_view path, Format format) const {
    const auto& answers = format == Format::json ? json : text;
    if (const auto found = answers.find(path); found != answers.end())
        return {Status::found, found->second};
    return {json.contains(path) ? Status::no_text : Status::not_found, {}};
}

MmdsGuest::MmdsGuest(devices::mmds::Responder::Options options)
    : stack{service, {metadata, devices::mmds::SessionTokens::create().value(), options}, [] {
                return first_sequence;
            }} {}

void MmdsGuest::send(std::uint8_t flags, std::string_view payload, std::optional<std::uint16_t> largest) {
    send_at(sequence, flags, payload, largest);
    sequence += static_cast<std::uint32_t>(payload.size()) +
                ((flags & (devices::mmds::tcp_flag::syn | devices::mmds::tcp_flag::fin)) != 0 ? 1 : 0);
}

void MmdsGuest::send_at(std::uint32_t at, std::uint8_t flags, std::string_view payload,
                        std::optional<std::uint16_t> largest) {
    const Segment segment{.source_port = port,
                          .destination_port = Stack::http_port,
                          .sequence = at,
                          .acknowledgement = expected,
                          .flags = flags,
                          .window = window,
                          .largest = largest,
                          .payload = std::as_bytes(std::span{payload})};
    std::vector<std::byte> frame(devices::mmds::tcp_frame_size(payload.size()));
    frame.resize(write_segment(frame, self, gateway, segment));
    stack.take(frame, now);
}

std::optional<MmdsGuest::Segment> MmdsGuest::look() {
    frame_.resize(Stack::frame_size);
    frame_.resize(stack.next(frame_, now));
    if (frame_.empty())
        return std::nullopt;
    const auto parsed = devices::mmds::parse_segment(frame_, self.address);
    return parsed ? std::optional{parsed->segment} : std::nullopt;
}

void MmdsGuest::run() {
    while (const auto segment = look()) {
        if (segment->destination_port != port)
            continue;
        if (segment->has(devices::mmds::tcp_flag::rst)) {
            reset = true;
            return;
        }
        if (segment->has(devices::mmds::tcp_flag::syn))
            expected = segment->sequence + 1;
        if (segment->sequence != expected && !segment->has(devices::mmds::tcp_flag::syn))
            continue;
        for (const std::byte byte : segment->payload)
            received += static_cast<char>(byte);
        expected += static_cast<std::uint32_t>(segment->payload.size());
        if (segment->has(devices::mmds::tcp_flag::fin)) {
            ++expected;
            closed = true;
        }
        if (!segment->payload.empty() || segment->has(devices::mmds::tcp_flag::fin | devices::mmds::tcp_flag::syn))
            send(devices::mmds::tcp_flag::ack);
    }
}

void MmdsGuest::open(std::optional<std::uint16_t> largest) {
    send(devices::mmds::tcp_flag::syn, {}, largest);
    run();
}

std::string MmdsGuest::ask(std::string_view request) {
    received.clear();
    send(devices::mmds::tcp_flag::ack | devices::mmds::tcp_flag::psh, request);
    run();
    return received;
}

std::string MmdsGuest::body() const {
    const auto at = received.find("\r\n\r\n");
    return at == received.npos ? std::string{} : received.substr(at + 4);
}

} // namespace inox::fakes
