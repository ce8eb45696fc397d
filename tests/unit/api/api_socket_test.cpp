// SPDX-License-Identifier: Apache-2.0
// The API's socket: who may open it, what its path may name before, and what is left at the end.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/catch.hpp"
#include "tests/support/api_socket.hpp"
#include "tests/support/eventually.hpp"

namespace inox::api_socket_test {

using tests::ApiSocket, tests::echo, tests::eventually, tests::get_root, tests::serve, tests::socket_path;

TEST_CASE("the end of the server closes its clients, removes the socket, and lets late answers fall") {
    const auto path = socket_path();
    std::shared_ptr<api::Exchange> late;
    std::shared_ptr<api::Stream> stream;
    std::atomic<int> seen{0};
    auto server = serve({.path = path}, [&](api::Request request, const auto& exchange) {
        if (request.path == "/late")
            late = exchange;
        else
            stream = exchange->stream("text/plain");
        ++seen;
    });
    ApiSocket idle{path};
    ApiSocket waiting{path};
    REQUIRE(waiting.send("GET /late HTTP/1.1\r\n\r\n"));
    ApiSocket reading{path};
    REQUIRE(reading.send("GET /stream HTTP/1.1\r\n\r\n"));
    REQUIRE(eventually([&] { return seen == 2; }));
    stream->write("last words\n");
    server.reset();
    CHECK(::access(path.c_str(), F_OK) != 0);
    CHECK(idle.receive_all().empty());
    CHECK(idle.ended());
    CHECK(waiting.receive_all().empty());
    CHECK(reading.receive_all().find("last words\n") != std::string::npos);
    late->answer({200, "{}", "application/json", false});
    CHECK_FALSE(stream->write("x"));
}

TEST_CASE("the socket: mode, stale files, live ones, long paths") {
    const auto path = socket_path();
    {
        const auto server = serve({.path = path});
        struct stat status {};
        REQUIRE(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0600);
        const auto second = api::Server::create({.path = path}, echo);
        REQUIRE_FALSE(second);
        CHECK(second.error().code == Errc::in_use);
        CHECK(second.error().what ==
              "Failed to open the API socket at: " + path + ". Check that it is not already used.");
        ApiSocket client{path};
        CHECK(client.send(get_root)); // the refusal did not disturb the first server
        CHECK(client.receive_answer().starts_with("HTTP/1.1 200"));
    }
    CHECK(::access(path.c_str(), F_OK) != 0);
    // A socket whose process has ended.
    const UniqueFd stale{::socket(AF_UNIX, SOCK_STREAM, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(stale.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0); // NOLINT
    {
        const auto server = serve({.path = path});
        // A file that somebody has put in its place is not removed.
        ::unlink(path.c_str());
        UniqueFd other{::creat(path.c_str(), 0600)};
    }
    CHECK(::access(path.c_str(), F_OK) == 0);
    const auto file = api::Server::create({.path = path}, echo);
    REQUIRE_FALSE(file);
    CHECK(file.error().code == Errc::in_use);
    ::unlink(path.c_str());
    const auto long_path = api::Server::create({.path = "/tmp/" + std::string(103, 'x')}, echo);
    REQUIRE_FALSE(long_path);
    CHECK(long_path.error().what.find("108 bytes: a unix socket takes at most 107") != std::string::npos);
    const std::string longest =
        "/tmp/" + std::string(102 - std::to_string(::getpid()).size(), 'y') + std::to_string(::getpid());
    CHECK(api::Server::create({.path = longest}, echo));
    const auto nowhere = api::Server::create({.path = "/nonexistent/socket"}, echo);
    REQUIRE_FALSE(nowhere);
    CHECK(nowhere.error().code == Errc::output_unwritable);
}

TEST_CASE("a group's members may be admitted, others are not") {
    const auto path = socket_path();
    const auto group = std::to_string(::getegid());
    const auto server = serve({.path = path, .group = group});
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0660);
    CHECK(status.st_gid == ::getegid());
    int pair[2]{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(api::PeerRule{}.admits(pair[0])); // our own process
    CHECK_FALSE(api::PeerRule{}.admits(0)); // not a socket, so its user is unknown
    ::close(pair[0]);
    ::close(pair[1]);
}

TEST_CASE("a peer of another user is refused, whatever the socket's mode") {
    if (::geteuid() != 0)
        return; // this needs two users
    const auto path = socket_path();
    const auto server = serve({.path = path});
    REQUIRE(::chmod(path.c_str(), 0666) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setgid(65534) != 0 || ::setuid(65534) != 0)
            ::_exit(3);
        ApiSocket client{path};
        const auto all = client.receive_all();
        ::_exit(all.starts_with("HTTP/1.1 403 \r\n") && all.find("may not use the API") != all.npos ? 0 : 4);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(server->counters().refused_peer == 1);
}

} // namespace inox::api_socket_test
