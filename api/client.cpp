// SPDX-License-Identifier: Apache-2.0
#include "api/client.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <functional>
#include <optional>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/unix_socket.hpp"

namespace inox::api {
namespace {

std::string encoded(std::string_view text, bool (*stays)(unsigned char)) {
    std::string out;
    for (const char c : text)
        if (const auto byte = static_cast<unsigned char>(c); stays(byte))
            out += c;
        else
            out += format("%%%02X", byte);
    return out;
}

} // namespace

/// Waits for a socket up to a deadline.
class Client::Wait {
public:
    explicit Wait(std::chrono::milliseconds limit) : end_{Clock::now() + limit} {}

    /// False when the deadline has passed.
    [[nodiscard]] bool for_events(int socket, short events) const {
        for (;;) {
            pollfd poll{socket, events, 0};
            const int ready = ::poll(&poll, 1, endless_ ? -1 : static_cast<int>(left().count()));
            if (ready > 0 || (ready < 0 && errno != EINTR))
                return true; // the next call reports an error
            if (ready == 0 && over())
                return false;
        }
    }
    [[nodiscard]] bool over() const { return !endless_ && Clock::now() >= end_; }
    /// Removes the deadline.
    void lift() { endless_ = true; }

private:
    using Clock = std::chrono::steady_clock;
    [[nodiscard]] std::chrono::milliseconds left() const {
        const auto time = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now());
        return std::clamp(time, std::chrono::milliseconds{0}, std::chrono::milliseconds{1'000'000});
    }
    Clock::time_point end_;
    bool endless_{false};
};

/// Reads an answer: its head, then its body by length, by chunks or to the end.
class Client::Reader {
public:
    Reader(const UniqueFd& socket, const Wait& wait) : fd_{socket.get()}, wait_{wait} {}

    /// A line without its line end; nullopt at the end of the connection.
    std::optional<std::string> line() {
        for (;;) {
            const auto end = buffer_.find("\r\n");
            if (end != buffer_.npos) {
                std::string out = buffer_.substr(0, end);
                buffer_.erase(0, end + 2);
                return out;
            }
            if (!fill())
                return std::nullopt;
        }
    }

    std::optional<std::string> bytes(std::size_t count) {
        while (buffer_.size() < count)
            if (!fill())
                return std::nullopt;
        std::string out = buffer_.substr(0, count);
        buffer_.erase(0, count);
        return out;
    }

    /// Reads the status, and the headers that matter here. False when it does not come whole.
    bool head() {
        do {
            const auto first = line();
            if (!first || !first->starts_with("HTTP/1.") || first->size() < 12)
                return false;
            std::from_chars(first->data() + 9, first->data() + 12, status_);
            auto header = line();
            for (; header && !header->empty(); header = line())
                note(*header);
            if (!header)
                return false;
        } while (status_ == 100);
        return true;
    }

    [[nodiscard]] unsigned status() const { return status_; }
    [[nodiscard]] bool chunked() const { return chunked_; }
    /// Of the body; nullopt: up to the end of the connection.
    [[nodiscard]] std::optional<std::size_t> length() const {
        return status_ == 204 || status_ == 304 ? 0 : length_; // which have none
    }

    /// The next chunk; empty: the last one; nullopt: the connection ended before it.
    std::optional<std::string> chunk() {
        const auto size_line = line();
        std::size_t size = 0;
        if (!size_line ||
            std::from_chars(size_line->data(), size_line->data() + size_line->size(), size, 16).ec != std::errc{})
            return std::nullopt;
        if (size == 0)
            return std::string{};
        auto out = bytes(size);
        return out && line() ? out : std::nullopt;
    }

    /// All that comes until the server closes; nullopt: not within the time.
    std::optional<std::string> to_end() {
        while (fill()) {
        }
        return ended_ ? std::optional{std::move(buffer_)} : std::nullopt;
    }

private:
    void note(std::string_view header) {
        const auto colon = std::min(header.find(':'), header.size());
        const auto value = header.substr(std::min(header.find_first_not_of(": \t", colon), header.size()));
        const auto is = [&](std::string_view name) {
            return std::ranges::equal(header.substr(0, colon), name, {}, [](char c) { return c | 0x20; });
        };
        std::size_t length = 0;
        if (is("content-length") && std::from_chars(value.begin(), value.end(), length).ec == std::errc{})
            length_ = length;
        chunked_ |= is("transfer-encoding") && value == "chunked";
    }

    bool fill() {
        std::array<char, 16384> piece{};
        if (!wait_.for_events(fd_, POLLIN))
            return false;
        const auto got = ::read(fd_, piece.data(), piece.size());
        ended_ = got == 0;
        if (got <= 0)
            return got < 0 && (errno == EINTR || errno == EAGAIN);
        buffer_.append(piece.data(), static_cast<std::size_t>(got));
        return true;
    }

    int fd_;
    const Wait& wait_;
    std::string buffer_{};
    unsigned status_{0};
    std::optional<std::size_t> length_{};
    bool chunked_{false};
    bool ended_{false};
};

std::unexpected<Error> Client::no_answer(const Wait& wait) const {
    if (wait.over())
        return fail(Errc::timed_out,
                    format("no answer from '%s' within %lld ms", path_.c_str(), static_cast<long long>(limit_.count())),
                    "the process may be stopped; --timeout allows more time");
    return fail(Errc::host_error, "the server closed the connection without a whole answer",
                "has the guest ended meanwhile?");
}

Result<Client::Answer> Client::rest(Reader& reader, const Wait& wait) const {
    Answer answer{reader.status(), {}};
    if (reader.chunked()) {
        auto piece = reader.chunk();
        for (; piece && !piece->empty(); piece = reader.chunk())
            answer.body += *piece;
        if (!piece)
            return no_answer(wait);
        return answer;
    }
    const auto length = reader.length();
    auto body = length ? reader.bytes(*length) : reader.to_end();
    if (!body)
        return no_answer(wait);
    answer.body = std::move(*body);
    return answer;
}

std::string percent_encoded(std::string_view text) {
    return encoded(text, [](unsigned char c) {
        return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
               std::string_view{"-._~"}.find(static_cast<char>(c)) != std::string_view::npos;
    });
}

Result<UniqueFd> Client::connect(const Wait& wait) const {
    const auto address = unix_address(path_);
    if (path_.empty() || !address)
        return fail(Errc::bad_option, format("the socket's path has %zu bytes", path_.size()),
                    "name the socket that --api-sock named: 1 to 107 bytes");
    UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket)
        return fail_errno(Errc::host_error, "no socket");
    const auto* generic = reinterpret_cast<const sockaddr*>(&*address); // NOLINT: what connect(2) takes
    while (::connect(socket.get(), generic, sizeof *address) != 0) {
        if (errno == EAGAIN && !wait.over()) { // the backlog is full
            ::usleep(10'000);
            continue;
        }
        if (errno == EAGAIN)
            return no_answer(wait);
        return fail_errno(Errc::not_found, "cannot reach '" + path_ + "'",
                          errno == EACCES ? "it belongs to another user: see --api-group"
                                          : "is inox running with --api-sock " + path_ + "?");
    }
    return socket;
}

Result<UniqueFd> Client::send(const Wait& wait, std::string_view method, std::string_view target, std::string_view body,
                              std::span<const int> passed) const {
    auto socket = TRY(connect(wait));
    std::string request = std::string{method} + " " +
                          encoded(target, [](unsigned char c) { return c > ' ' && c < 0x7f; }) +
                          " HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n";
    if (!body.empty())
        request += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
    request += "\r\n";
    request += body;
    std::string_view left{request};
    while (!left.empty()) {
        const iovec part{const_cast<char*>(left.data()), left.size()}; // NOLINT(*-const-cast): it is only read
        const auto sent = send_passing(socket.get(), std::span{&part, 1},
                                       left.size() == request.size() ? passed : std::span<const int>{}, 0);
        if (sent < 0 && errno == EAGAIN && !wait.for_events(socket.get(), POLLOUT))
            return no_answer(wait);
        if (sent < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (sent < 0)
            break; // the answer tells why
        left.remove_prefix(static_cast<std::size_t>(sent));
    }
    return socket;
}

Result<Client::Answer> Client::call(std::string_view method, std::string_view target, std::string_view body,
                                    std::span<const int> passed) const {
    const Wait wait{limit_};
    const auto socket = TRY(send(wait, method, target, body, passed));
    Reader reader{socket, wait};
    if (!reader.head())
        return no_answer(wait);
    return rest(reader, wait);
}

Result<Client::Answer> Client::follow(std::string_view target,
                                      const std::function<bool(std::string_view line)>& on_line) const {
    Wait wait{limit_};
    const auto socket = TRY(send(wait, "GET", target, {}));
    Reader reader{socket, wait};
    if (!reader.head())
        return no_answer(wait);
    if (!reader.chunked())
        return rest(reader, wait);
    wait.lift();
    std::string text;
    // A stream may end at any time, as its guest does.
    for (auto piece = reader.chunk(); piece && !piece->empty(); piece = reader.chunk()) {
        text += *piece;
        for (auto end = text.find('\n'); end != text.npos; end = text.find('\n')) {
            if (!on_line(std::string_view{text}.substr(0, end)))
                return Answer{reader.status(), {}};
            text.erase(0, end + 1);
        }
    }
    return Answer{reader.status(), {}};
}

} // namespace inox::api
