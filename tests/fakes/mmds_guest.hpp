// SPDX-License-Identifier: Apache-2.0
// A guest's TCP client against the metadata service's stack, with a clock of its own.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "devices/mmds/stack.hpp"

namespace inox::fakes {

/// Answers from a map; numbers are what has no text.
struct FakeMetadata final : devices::MetadataSource {
    std::map<std::string, std::string, std::less<>> json{
        {"/", R"({"a":"text","n":1})"}, {"/a", R"("text")"}, {"/n", "1"}};
    std::map<std::string, std::string, std::less<>> text{{"/", "a\nn"}, {"/a", "text"}};

    [[nodiscard]] Answer read(std::string_view path, Format format) const override {
        const auto& answers = format == Format::json ? json : text;
        if (const auto found = answers.find(path); found != answers.end())
            return {Status::found, found->second};
        return {json.contains(path) ? Status::no_text : Status::not_found, {}};
    }
};

struct MmdsGuest {
    using Stack = devices::mmds::Stack;
    using Segment = devices::mmds::Segment;
    static constexpr devices::mmds::Ipv4 service{0xa9fea9fe};
    static constexpr devices::mmds::Host self{{{2, 0, 0, 0, 0, 1}}, devices::mmds::Ipv4{0xac100002}};
    static constexpr devices::mmds::Host gateway{{{2, 0, 0, 0, 0, 2}}, service};
    static constexpr std::uint32_t first_sequence = 0xffffff00; ///< of the service: wraps soon

    FakeMetadata metadata{};
    Stack::Time now{std::chrono::hours{1}};
    Stack stack;

    explicit MmdsGuest(devices::mmds::Responder::Options options = {})
        : stack{service, {metadata, devices::mmds::SessionTokens::create().value(), options}, [] {
                    return first_sequence;
                }} {}

    // The client's own state, on port `port`.
    std::uint16_t port{40000};
    std::uint32_t sequence{0xfffffff0};
    std::uint32_t expected{};
    std::uint16_t window{65535};
    std::string received{};
    bool closed{false}; ///< the service's FIN has come
    bool reset{false};

    void send(std::uint8_t flags, std::string_view payload = {}, std::optional<std::uint16_t> largest = {}) {
        send_at(sequence, flags, payload, largest);
        sequence += static_cast<std::uint32_t>(payload.size()) +
                    ((flags & (devices::mmds::tcp_flag::syn | devices::mmds::tcp_flag::fin)) != 0 ? 1 : 0);
    }
    void send_at(std::uint32_t at, std::uint8_t flags, std::string_view payload = {},
                 std::optional<std::uint16_t> largest = {}) {
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
    /// The next frame, as the guest sees it.
    std::optional<Segment> look() {
        frame_.resize(Stack::frame_size);
        frame_.resize(stack.next(frame_, now));
        if (frame_.empty())
            return std::nullopt;
        const auto parsed = devices::mmds::parse_segment(frame_, self.address);
        return parsed ? std::optional{parsed->segment} : std::nullopt;
    }
    /// Takes and acknowledges all there is.
    void run() {
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
    void open(std::optional<std::uint16_t> largest = 1460) {
        send(devices::mmds::tcp_flag::syn, {}, largest);
        run();
    }
    /// What the service says to a request on an open connection.
    std::string ask(std::string_view request) {
        received.clear();
        send(devices::mmds::tcp_flag::ack | devices::mmds::tcp_flag::psh, request);
        run();
        return received;
    }
    /// Of the last answer.
    [[nodiscard]] std::string body() const {
        const auto at = received.find("\r\n\r\n");
        return at == received.npos ? std::string{} : received.substr(at + 4);
    }

private:
    std::vector<std::byte> frame_{};
};

} // namespace inox::fakes
