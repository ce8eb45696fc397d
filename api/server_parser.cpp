// SPDX-License-Identifier: Apache-2.0
#include "api/server_parser.hpp"

#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "api/firecracker/protocol.hpp"

namespace inox::api {

namespace http = boost::beast::http;

struct RequestParser::Message {
    http::request_parser<http::string_body> parser{};
};

namespace {

constexpr auto too_long = "a line or the header is too long";

/// A client's text for an error message: at most 80 characters; those that need escapes in JSON become '?'.
std::string safe(std::string_view text) {
    std::string out;
    for (const char c : text.substr(0, 80))
        out += c >= 0x20 && c < 0x7f && c != '"' && c != '\\' ? c : '?';
    return out;
}

/// The path and query of "/x?y" or "http://host/x?y"; empty when it is neither.
std::string_view origin_form(std::string_view target) {
    if (target.starts_with('/'))
        return target;
    constexpr std::string_view scheme = "http://";
    if (!target.starts_with(scheme))
        return {};
    const auto slash = target.find('/', scheme.size());
    return slash == target.npos ? std::string_view{"/"} : target.substr(slash);
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return std::tolower(static_cast<unsigned char>(x)) == y; });
}

/// Whether a line of a header is too long, up to the empty line. `bytes` begin with a line.
bool has_long_line(std::string_view bytes) {
    for (;;) {
        const auto end = std::min(bytes.find('\n'), bytes.size());
        auto line = bytes.substr(0, end);
        if (line.ends_with('\r'))
            line.remove_suffix(1);
        if (line.size() > RequestParser::longest_line)
            return true;
        if (line.empty() || end == bytes.size())
            return false;
        bytes.remove_prefix(end + 1);
    }
}

std::optional<Method> method_of(http::verb verb) {
    switch (verb) {
    case http::verb::get:
        return Method::get;
    case http::verb::put:
        return Method::put;
    case http::verb::patch:
        return Method::patch;
    case http::verb::delete_:
        return Method::del;
    default:
        return std::nullopt;
    }
}

} // namespace

RequestParser::RequestParser(std::size_t max_body) : max_body_{max_body} { restart(); }
RequestParser::~RequestParser() = default;
RequestParser::RequestParser(RequestParser&&) noexcept = default;

void RequestParser::restart() {
    message_ = std::make_unique<Message>();
    message_->parser.header_limit(largest_header);
    message_->parser.body_limit(boost::none); // checked here, with the size in the answer
    message_->parser.eager(false);
    request_ = {};
    header_done_ = told_to_proceed_ = false;
}

void RequestParser::feed(std::string_view bytes) { buffer_.append(bytes); }

bool RequestParser::idle() const { return !message_->parser.got_some() && buffer_.empty(); }

RequestParser::Step RequestParser::refuse(const std::string& why) {
    refusal_ = {400, firecracker::last_protocol_error(why), "application/json", false};
    return Step::refused;
}

RequestParser::Step RequestParser::refuse_size(std::uint64_t size) {
    return refuse(firecracker::too_large(size, max_body_));
}

RequestParser::Step RequestParser::step() {
    if (refusal_.status == 400)
        return Step::refused;
    if (!header_done_) {
        const auto step = parse_header();
        if (step != Step::request)
            return step;
    }
    return parse_body();
}

/// Step::request means here that the header is complete.
RequestParser::Step RequestParser::parse_header() {
    if (buffer_.empty())
        return Step::more;
    boost::system::error_code error;
    auto& parser = message_->parser;
    const bool long_line = has_long_line(buffer_);
    const auto used = parser.put(boost::asio::buffer(buffer_), error);
    if (error == http::error::need_more) {
        buffer_.erase(0, used);
        // The parser would look for the end of a line without limit, so the limit is checked here.
        if (buffer_.size() > largest_header || long_line)
            return refuse(firecracker::invalid_request(too_long));
        return Step::more;
    }
    if (error)
        return refuse(firecracker::invalid_request(safe(error.message())));
    buffer_.erase(0, used);
    header_done_ = true;
    if (const auto problem = header_problem())
        return refuse(*problem);
    if (long_line) // a long line of spaces, which the parser removes
        return refuse(firecracker::invalid_request(too_long));
    const auto length = parser.content_length();
    if (length && *length > max_body_)
        return refuse_size(*length);
    if (parser.chunked())
        parser.body_limit(max_body_);
    return Step::request;
}

std::optional<std::string> RequestParser::header_problem() {
    const auto& message = message_->parser.get();
    const std::string_view name{message.method_string().data(), message.method_string().size()};
    const std::string_view target{message.target().data(), message.target().size()};
    const auto method = method_of(message.method());
    if (!method)
        return firecracker::invalid_method(safe(name));
    minor_version_ = message.version() == 10 ? 0 : 1;
    if (message.version() != 10 && message.version() != 11)
        return firecracker::invalid_version();
    if (name.size() + target.size() + std::string_view{"  HTTP/1.1"}.size() > longest_line)
        return firecracker::invalid_request("the request line is too long");
    const auto path = origin_form(target);
    if (path.empty())
        return firecracker::invalid_uri(safe(target));
    std::size_t whole = name.size() + target.size();
    for (const auto& field : message) {
        const auto line = field.name_string().size() + field.value().size() + 2;
        whole += line + 2;
        if (line > longest_line)
            return firecracker::invalid_request(
                "the header " + safe({field.name_string().data(), field.name_string().size()}) + " is too long");
    }
    if (whole > largest_header) // Beast's own limit is less exact
        return firecracker::invalid_request(too_long);
    if (const auto coding = message[http::field::transfer_encoding];
        !coding.empty() && !equal_ignoring_case({coding.data(), coding.size()}, "chunked") &&
        !equal_ignoring_case({coding.data(), coding.size()}, "identity"))
        return firecracker::invalid_coding(safe({coding.data(), coding.size()}));
    const auto question = path.find('?');
    request_.method = *method;
    request_.path = path.substr(0, question);
    if (question != path.npos)
        request_.query = path.substr(question + 1);
    return std::nullopt;
}

RequestParser::Step RequestParser::parse_body() {
    auto& parser = message_->parser;
    if (!told_to_proceed_) {
        told_to_proceed_ = true;
        const auto expect = parser.get()[http::field::expect];
        if (minor_version_ == 1 && buffer_.empty() && !parser.is_done() &&
            equal_ignoring_case({expect.data(), expect.size()}, "100-continue"))
            return Step::proceed;
    }
    while (!parser.is_done()) {
        if (buffer_.empty())
            return Step::more;
        boost::system::error_code error;
        const auto used = parser.put(boost::asio::buffer(buffer_), error);
        buffer_.erase(0, used);
        if (error == http::error::need_more)
            return buffer_.size() > largest_header
                       ? refuse(firecracker::invalid_request("a chunk's header is too long"))
                       : Step::more;
        if (error == http::error::body_limit)
            return refuse_size(max_body_ + 1);
        if (error)
            return refuse(firecracker::invalid_request(safe(error.message())));
    }
    return Step::request;
}

Request RequestParser::take() {
    auto& parser = message_->parser;
    keep_alive_ = parser.get().keep_alive();
    Request out = std::move(request_);
    out.body = std::move(parser.get().body());
    restart();
    return out;
}

} // namespace inox::api
