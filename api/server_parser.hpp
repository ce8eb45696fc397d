// SPDX-License-Identifier: Apache-2.0
// Bytes of one connection into requests: pure, no sockets.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "api/http.hpp"

namespace inox::api {

class RequestParser {
public:
    static constexpr std::size_t longest_line = 1024;        ///< of the request line and of a header
    static constexpr std::size_t largest_header = 16 * 1024; ///< all lines together
    static constexpr std::size_t default_max_body = 51200;

    enum class Step : std::uint8_t {
        more,    ///< feed() it
        proceed, ///< the client waits to be told to send the body (100-continue); then step() again
        request, ///< take() it
        refused, ///< answer refusal(), then close: where the next request begins is unknown
    };

    explicit RequestParser(std::size_t max_body = default_max_body);
    ~RequestParser();
    RequestParser(RequestParser&&) noexcept;
    RequestParser& operator=(RequestParser&&) = delete;
    RequestParser(const RequestParser&) = delete;
    RequestParser& operator=(const RequestParser&) = delete;

    void feed(std::string_view bytes);
    Step step();
    /// After Step::request; the parser is then at the next request.
    Request take();
    /// Whether the client of the request last taken wants the connection kept; also which version it speaks.
    [[nodiscard]] bool keep_alive() const { return keep_alive_; }
    [[nodiscard]] unsigned minor_version() const { return minor_version_; }
    [[nodiscard]] const Response& refusal() const { return refusal_; }
    /// No byte of the next request is here yet.
    [[nodiscard]] bool idle() const;

private:
    struct Message;
    void restart();
    Step parse_header();
    Step parse_body();
    /// Why the header cannot be accepted; nullopt when it can.
    std::optional<std::string> header_problem();
    Step refuse(const std::string& why);
    Step refuse_size(std::uint64_t size);

    std::size_t max_body_;
    std::string buffer_{};
    std::unique_ptr<Message> message_;
    Request request_{};
    Response refusal_{};
    bool header_done_{false};
    bool told_to_proceed_{false};
    bool keep_alive_{true};
    unsigned minor_version_{1};
};

} // namespace inox::api
