// SPDX-License-Identifier: Apache-2.0
#include "api/client.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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

    /// Reads the status, and the headers that matter here.
    bool head() {
        do {
            const auto first = line();
            if (!first || !first->starts_with("HTTP/1.") || first->size() < 12)
                return false;
            std::from_chars(first->data() + 9, first->data() + 12, status_);
            for (auto header = line(); header && !header->empty(); header = line()) {
                if (header->starts_with("Content-Length: "))
                    std::from_chars(header->data() + 16, header->data() + header->size(), length_);
                chunked_ |= *header == "Transfer-Encoding: chunked";
            }
        } while (status_ == 100);
        return true;
    }

    [[nodiscard]] unsigned status() const { return status_; }
    [[nodiscard]] bool chunked() const { return chunked_; }
    [[nodiscard]] std::size_t length() const { return length_; }

    /// The next chunk; empty at the end.
    std::string chunk() {
        const auto size_line = line();
        std::size_t size = 0;
        if (size_line)
            std::from_chars(size_line->data(), size_line->data() + size_line->size(), size, 16);
        auto out = size == 0 ? std::nullopt : bytes(size + 2);
        if (!out)
            return {};
        out->resize(size);
        return *out;
    }

private:
    bool fill() {
        std::array<char, 16384> piece{};
        if (!wait_.for_events(fd_, POLLIN))
            return false;
        const auto got = ::read(fd_, piece.data(), piece.size());
        if (got <= 0)
            return got < 0 && (errno == EINTR || errno == EAGAIN);
        buffer_.append(piece.data(), static_cast<std::size_t>(got));
        return true;
    }

    int fd_;
    const Wait& wait_;
    std::string buffer_{};
    unsigned status_{0};
    std::size_t length_{0};
    bool chunked_{false};
};

std::unexpected<Error> Client::no_answer(const Wait& wait) const {
    if (wait.over())
        return fail(Errc::timed_out,
                    format("no answer from '%s' within %lld ms", path_.c_str(), static_cast<long long>(limit_.count())),
                    "the process may be stopped; --timeout allows more time");
    return fail(Errc::host_error, "the server closed the connection without an answer",
                "has the guest ended meanwhile?");
}

Result<Client::Answer> Client::rest(Reader& reader, const Wait& wait) const {
    Answer answer{reader.status(), {}};
    if (reader.chunked()) {
        for (auto piece = reader.chunk(); !piece.empty(); piece = reader.chunk())
            answer.body += piece;
        if (wait.over())
            return no_answer(wait);
        return answer;
    }
    auto body = reader.bytes(reader.length());
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
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path_.empty() || path_.size() >= sizeof address.sun_path)
        return fail(Errc::bad_option, format("the socket's path has %zu bytes", path_.size()),
                    "name the socket that --api-sock named: 1 to 107 bytes");
    std::memcpy(address.sun_path, path_.data(), path_.size());
    UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket)
        return fail_errno(Errc::host_error, "no socket");
    const auto* generic = reinterpret_cast<const sockaddr*>(&address); // NOLINT: what connect(2) takes
    while (::connect(socket.get(), generic, sizeof address) != 0) {
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

Result<UniqueFd> Client::send(const Wait& wait, std::string_view method, std::string_view target,
                              std::string_view body) const {
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
        const auto sent = ::send(socket.get(), left.data(), left.size(), MSG_NOSIGNAL);
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

Result<Client::Answer> Client::call(std::string_view method, std::string_view target, std::string_view body) const {
    const Wait wait{limit_};
    const auto socket = TRY(send(wait, method, target, body));
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
    for (auto piece = reader.chunk(); !piece.empty(); piece = reader.chunk()) {
        text += piece;
        for (auto end = text.find('\n'); end != text.npos; end = text.find('\n')) {
            if (!on_line(std::string_view{text}.substr(0, end)))
                return Answer{reader.status(), {}};
            text.erase(0, end + 1);
        }
    }
    return Answer{reader.status(), {}};
}

} // namespace inox::api
