// SPDX-License-Identifier: Apache-2.0
// The client of `inox ctl` against servers that break off.
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include "api/client.hpp"
#include "tests/catch.hpp"

namespace inox::api_ctl_client_test {
namespace {

/// What the client makes of `reply`, after which the server closes.
Result<api::Client::Answer> answer_of(std::string_view reply) {
    const std::string path = "/tmp/inox-client-" + std::to_string(::getpid());
    ::unlink(path.c_str());
    const UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0); // NOLINT
    REQUIRE(::listen(listener.get(), 1) == 0);
    std::thread server{[&] {
        const UniqueFd client{::accept(listener.get(), nullptr, nullptr)};
        char request[4096];
        (void)!::read(client.get(), request, sizeof request);
        (void)!::write(client.get(), reply.data(), reply.size());
    }};
    auto answer = api::Client{path}.call("GET", "/");
    server.join();
    ::unlink(path.c_str());
    return answer;
}

} // namespace

TEST_CASE("an answer that breaks off is no answer") {
    const std::string head = "HTTP/1.1 200 OK\r\n";
    for (const char* rest : {"", "X: y", "X: y\r\n", "Content-Length: 5\r\n\r\nhell", "content-length:5\r\n\r\nhell",
                             "Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                             "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "Transfer-Encoding: chunked\r\n\r\nx\r\n"}) {
        INFO(rest);
        const auto answer = answer_of(head + rest);
        REQUIRE_FALSE(answer);
        CHECK(answer.error().code == Errc::host_error);
    }
    for (const char* rest : {"Content-Length: 5\r\n\r\nhello", "content-length:5\r\n\r\nhello", "X: y\r\n\r\nhello",
                             "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"}) {
        INFO(rest);
        const auto answer = answer_of(head + rest);
        REQUIRE(answer);
        CHECK(answer->body == "hello");
    }
    CHECK(answer_of("HTTP/1.1 204 No Content\r\n\r\n")->body.empty());
}

} // namespace inox::api_ctl_client_test
