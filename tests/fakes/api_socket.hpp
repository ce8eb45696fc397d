// SPDX-License-Identifier: Apache-2.0
// The API's server on a real socket, and clients that send and receive bytes.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "api/server.hpp"
#include "tests/catch.hpp"

namespace inox::fakes {

using namespace std::chrono_literals;

/// Another one each time.
inline std::string socket_path() {
    static std::atomic<unsigned> number{0};
    return "/tmp/inox-server-" + std::to_string(::getpid()) + "-" + std::to_string(number++);
}

class ApiSocket {
public:
    explicit ApiSocket(const std::string& path) : fd_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        connected_ = ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0; // NOLINT
    }
    [[nodiscard]] bool connected() const { return connected_; }
    bool send(const std::string& bytes) const {
        return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
    }
    /// Bytes until `enough` says so, the end, or the limit.
    template <class F> std::string receive(F enough, std::chrono::milliseconds limit = 5s) {
        const auto end = std::chrono::steady_clock::now() + limit;
        while (!enough(text_)) {
            const auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
            pollfd poll{fd_.get(), POLLIN, 0};
            char buffer[4096];
            if (left <= 0ms || ::poll(&poll, 1, static_cast<int>(left.count())) != 1)
                break;
            const auto got = ::read(fd_.get(), buffer, sizeof buffer);
            if (got <= 0) {
                ended_ = true;
                break;
            }
            text_.append(buffer, static_cast<std::size_t>(got));
        }
        return std::exchange(text_, {});
    }
    std::string receive_answer() {
        return receive([](const std::string& text) {
            const auto head = text.find("\r\n\r\n");
            if (head == text.npos)
                return false;
            const auto at = text.find("Content-Length: ");
            return at == text.npos || text.size() >= head + 4 + std::stoul(text.substr(at + 16));
        });
    }
    std::string receive_all(std::chrono::milliseconds limit = 5s) {
        return receive([](const std::string&) { return false; }, limit);
    }
    [[nodiscard]] bool ended() const { return ended_; }
    void close() { fd_.reset(); }
    /// Sends no more, and goes on reading.
    void end_sending() const { ::shutdown(fd_.get(), SHUT_WR); }

private:
    UniqueFd fd_;
    bool connected_{false};
    bool ended_{false};
    std::string text_{};
};

inline constexpr const char* get_root = "GET / HTTP/1.1\r\n\r\n";

/// Answers with the request's path as the body.
inline void echo(api::Request request, const std::shared_ptr<api::Exchange>& exchange) {
    exchange->answer({200, "\"" + request.path + "\"", "application/json", false});
}

inline std::unique_ptr<api::Server> serve(api::ServerOptions options, api::Handler handler = echo) {
    auto server = api::Server::create(options, std::move(handler));
    REQUIRE(server);
    return std::move(*server);
}

template <class F> bool eventually(F done, std::chrono::milliseconds limit = 5s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!done() && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(1ms);
    return done();
}

} // namespace inox::fakes
