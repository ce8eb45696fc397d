// SPDX-License-Identifier: Apache-2.0
#include "tests/support/api_socket.hpp"

namespace inox::tests {

std::string socket_path() {
    static std::atomic<unsigned> number{0};
    return "/tmp/inox-server-" + std::to_string(::getpid()) + "-" + std::to_string(number++);
}

ApiSocket::ApiSocket(const std::string& path) : fd_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    connected_ = ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0; // NOLINT
}

bool ApiSocket::send(const std::string& bytes) const {
    return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

std::string ApiSocket::receive_answer() {
    return receive([](const std::string& text) {
        const auto head = text.find("\r\n\r\n");
        if (head == text.npos)
            return false;
        const auto at = text.find("Content-Length: ");
        return at == text.npos || text.size() >= head + 4 + std::stoul(text.substr(at + 16));
    });
}

std::string ApiSocket::receive_all(std::chrono::milliseconds limit) {
    return receive([](const std::string&) { return false; }, limit);
}

void echo(api::Request request, const std::shared_ptr<api::Exchange>& exchange) {
    exchange->answer({200, "\"" + request.path + "\"", "application/json", false});
}

std::unique_ptr<api::Server> serve(api::ServerOptions options, api::Handler handler) {
    auto server = api::Server::create(options, std::move(handler));
    REQUIRE(server);
    return std::move(*server);
}

} // namespace inox::tests
