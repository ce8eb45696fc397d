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

    [[nodiscard]] Answer read(std::string_view path, Format format) const override;
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

    explicit MmdsGuest(devices::mmds::Responder::Options options = {});

    // The client's own state, on port `port`.
    std::uint16_t port{40000};
    std::uint32_t sequence{0xfffffff0};
    std::uint32_t expected{};
    std::uint16_t window{65535};
    std::string received{};
    bool closed{false}; ///< the service's FIN has come
    bool reset{false};

    void send(std::uint8_t flags, std::string_view payload = {}, std::optional<std::uint16_t> largest = {});
    void send_at(std::uint32_t at, std::uint8_t flags, std::string_view payload = {},
                 std::optional<std::uint16_t> largest = {});
    /// The next frame, as the guest sees it.
    std::optional<Segment> look();
    /// Takes and acknowledges all there is.
    void run();
    void open(std::optional<std::uint16_t> largest = 1460);
    /// What the service says to a request on an open connection.
    std::string ask(std::string_view request);
    /// Of the last answer.
    [[nodiscard]] std::string body() const;

private:
    std::vector<std::byte> frame_{};
};

} // namespace inox::fakes
