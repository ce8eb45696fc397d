// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/responder.hpp"

#include <algorithm>
#include <charconv>
#include <span>
#include <vector>

namespace inox::devices::mmds {
namespace {

constexpr std::string_view line_end = "\r\n";
constexpr std::string_view head_end = "\r\n\r\n";
constexpr std::string_view text_type = "text/plain";
constexpr std::string_view json_type = "application/json";
constexpr std::string_view forwarded_names[] = {"X-Forwarded-For"};
constexpr std::string_view token_path = "/latest/api/token";
// Each header has two names: Firecracker's, and the one of EC2's service.
constexpr std::string_view token_names[] = {"X-metadata-token", "X-aws-ec2-metadata-token"};
constexpr std::string_view life_names[] = {"X-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token-ttl-seconds"};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool same_word(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

bool has_word(std::string_view text, std::string_view word) {
    return !std::ranges::search(text, word, [](char x, char y) { return lower(x) == lower(y); }).empty();
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
        text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
        text.remove_suffix(1);
    return text;
}

/// Takes and returns the text up to the separator; the separator is removed, too.
std::string_view take_until(std::string_view& text, std::string_view separator) {
    const auto at = text.find(separator);
    const auto part = text.substr(0, at);
    text.remove_prefix(at == text.npos ? text.size() : at + separator.size());
    return part;
}

std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

struct Header {
    std::string_view name;
    std::string_view value;
};

/// nullopt when a line is no header.
std::optional<std::vector<Header>> parse_headers(std::string_view lines) {
    std::vector<Header> headers;
    while (!lines.empty()) {
        std::string_view line = take_until(lines, line_end);
        if (line.empty())
            continue;
        const auto colon = line.find(':');
        if (colon == line.npos || colon == 0)
            return std::nullopt;
        headers.push_back({trimmed(line.substr(0, colon)), trimmed(line.substr(colon + 1))});
    }
    return headers;
}

/// Merges slashes: "//a///b" becomes "/a/b".
std::string single_slashes(std::string_view path) {
    std::string out{path};
    const auto twice = std::ranges::unique(out, [](char a, char b) { return a == '/' && b == '/'; });
    out.erase(twice.begin(), twice.end());
    return out;
}

/// The path "/a" of "/a" and of "http://host/a"; empty when there is none.
std::string_view absolute_path(std::string_view target) {
    constexpr std::string_view scheme = "http://";
    if (!target.starts_with(scheme))
        return target.starts_with('/') ? target : std::string_view{};
    target.remove_prefix(scheme.size());
    const auto slash = target.find('/');
    return slash == target.npos ? std::string_view{} : target.substr(slash);
}

std::string_view reason(unsigned status) {
    switch (status) {
    case 200:
        return "OK";
    case 401:
        return "Unauthorized";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Payload Too Large";
    case 501:
        return "Not Implemented";
    default:
        return "Bad Request";
    }
}

} // namespace

struct Responder::Request {
    std::string_view method{};
    std::string_view target{};
    std::string_view version{};
    std::vector<Header> headers{};

    [[nodiscard]] const Header* find(std::span<const std::string_view> names) const {
        for (const auto name : names)
            for (const Header& header : headers)
                if (same_word(header.name, name))
                    return &header;
        return nullptr;
    }
    [[nodiscard]] std::string_view value(std::string_view name) const {
        const Header* header = find({&name, 1});
        return header ? header->value : std::string_view{};
    }
    [[nodiscard]] bool keep_alive() const {
        return version == "HTTP/1.0" ? has_word(value("Connection"), "keep-alive")
                                     : !has_word(value("Connection"), "close");
    }

    /// nullopt when the bytes are no request.
    static std::optional<Request> parse(std::string_view bytes) {
        std::string_view head = take_until(bytes, head_end);
        std::string_view line = take_until(head, line_end);
        Request request;
        request.method = take_until(line, " ");
        request.target = take_until(line, " ");
        request.version = line;
        auto headers = parse_headers(head);
        if (request.method.empty() || request.target.empty() || !headers ||
            (request.version != "HTTP/1.0" && request.version != "HTTP/1.1"))
            return std::nullopt;
        request.headers = std::move(*headers);
        return request;
    }
};

struct Responder::Content {
    unsigned status{200};
    std::string body{};
    std::string_view type{text_type};
    std::string more_headers{}; ///< each with its line end
};

namespace {

std::string render(std::string_view version, unsigned status, std::string_view type, std::string_view body,
                   std::string_view more_headers, bool close) {
    std::string out{version};
    out += " " + std::to_string(status) + " " + std::string{reason(status)} + "\r\nServer: MMDS\r\nConnection: ";
    out += close ? "close" : "keep-alive";
    out += "\r\nContent-Type: " + std::string{type} + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
    out += more_headers;
    out += line_end;
    out += body;
    return out;
}

} // namespace

std::optional<std::size_t> request_length(std::string_view bytes) {
    const auto end = bytes.find(head_end);
    if (end == bytes.npos)
        return std::nullopt;
    const std::size_t head = end + head_end.size();
    std::string_view lines = bytes.substr(0, end);
    take_until(lines, line_end);
    const auto headers = parse_headers(lines);
    if (!headers)
        return head;
    for (const Header& header : *headers)
        if (same_word(header.name, "Content-Length")) {
            const auto body = number(header.value);
            if (!body || *body > SIZE_MAX - head)
                return head;
            return bytes.size() - head >= *body ? std::optional{head + *body} : std::nullopt;
        }
    return head;
}

Reply Responder::too_large() {
    return {render("HTTP/1.1", 413, text_type, "The request is too large.", {}, true), true};
}

Reply Responder::answer(std::string_view bytes, SessionTokens::Time now) const {
    const auto request = Request::parse(bytes);
    if (!request)
        return {render("HTTP/1.1", 400, text_type, "Invalid request.", {}, true), true};
    const Content content = serve(*request, now);
    const bool close = !request->keep_alive();
    return {render(request->version, content.status, content.type, content.body, content.more_headers, close), close};
}

Responder::Content Responder::serve(const Request& request, SessionTokens::Time now) const {
    if (absolute_path(request.target).empty())
        return {400, "Invalid URI."};
    if (request.method == "PUT")
        return give_token(request, now);
    if (request.method != "GET")
        return {405, "Not allowed HTTP method.", text_type, "Allow: GET, PUT\r\n"};
    if (options_.version == Version::v2) {
        const Header* token = request.find(token_names);
        if (!token)
            return {401,
                    "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify "
                    "the session token."};
        if (!tokens_.valid(token->value, now))
            return {401, "MMDS token not valid."};
    }
    return read(request);
}

Responder::Content Responder::read(const Request& request) const {
    const auto path = absolute_path(request.target);
    const bool json = !options_.always_text && has_word(request.value("Accept"), json_type);
    auto [status, text] = source_.read(single_slashes(path), json ? MetadataSource::Format::json //
                                                                  : MetadataSource::Format::imds);
    switch (status) {
    case MetadataSource::Status::found:
        return {200, std::move(text), json ? json_type : text_type};
    case MetadataSource::Status::no_text:
        return {501, "Cannot retrieve value. The value has an unsupported type."};
    default:
        return {404, "Resource not found: " + std::string{path} + "."};
    }
}

Responder::Content Responder::give_token(const Request& request, SessionTokens::Time now) const {
    // A proxy that forwards requests from elsewhere must not get a token.
    if (request.find(forwarded_names))
        return {400, "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For"};
    const auto path = absolute_path(request.target);
    if (single_slashes(path) != token_path)
        return {404, "Resource not found: " + std::string{path} + "."};
    const Header* life = request.find(life_names);
    if (!life)
        return {400, "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
                     "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime."};
    const auto seconds = number(life->value);
    constexpr auto least = static_cast<std::uint64_t>(SessionTokens::shortest.count());
    constexpr auto most = static_cast<std::uint64_t>(SessionTokens::longest.count());
    if (!seconds || *seconds < least || *seconds > most)
        return {400, "Invalid time to live value provided for token: " + std::string{life->value} +
                         ". Please provide a value between " + std::to_string(least) + " and " + std::to_string(most) +
                         "."};
    return {200, tokens_.issue(std::chrono::seconds{*seconds}, now), text_type,
            std::string{life->name} + ": " + std::to_string(*seconds) + "\r\n"};
}

} // namespace inox::devices::mmds
