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
#include "tests/support/eventually.hpp"

namespace inox::tests {

using namespace std::chrono_literals;

/// Another one each time.
std::string socket_path();

class ApiSocket {
public:
    explicit ApiSocket(const std::string& path);
    [[nodiscard]] bool connected() const { return connected_; }
    bool send(const std::string& bytes) const;
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
    std::string receive_answer();
    std::string receive_all(std::chrono::milliseconds limit = 5s);
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
void echo(api::Request request, const std::shared_ptr<api::Exchange>& exchange);

std::unique_ptr<api::Server> serve(api::ServerOptions options, api::Handler handler = echo);

} // namespace inox::tests
