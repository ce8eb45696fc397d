// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/outside/given_socket.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "tests/catch.hpp"
#include "vmm/base/os.hpp"

namespace inox::base_given_socket_test {

namespace {

UniqueFd listener(int family, int type, const std::string& path, bool listening) {
    UniqueFd socket{::socket(family, type | SOCK_CLOEXEC, 0)};
    if (!path.empty()) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path.data(), path.size());
        // NOLINTNEXTLINE: the socket interface casts
        REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    }
    if (listening)
        REQUIRE(::listen(socket.get(), 1) == 0);
    return socket;
}

/// What is handed over with these variables; "!" for a refusal.
std::string with(const std::string& pid, const char* count) {
    ::setenv("LISTEN_PID", pid.c_str(), 1);
    ::setenv("LISTEN_FDS", count, 1);
    ::setenv("LISTEN_FDNAMES", "api", 1);
    const auto found = given_socket::of_service_manager();
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
        CHECK(std::getenv(name) == nullptr); // not for programs that are started later
    return found.value_or("!");
}

} // namespace

TEST_CASE("a socket's descriptor is named by its number") {
    CHECK(given_socket::number("fd:3") == 3);
    CHECK(given_socket::number("fd:1023") == 1023);
    for (const char* text : {"fd:2", "fd:-3", "fd:", "fd:3x", "fd: 3", "./fd:3", "3", "", "fd:99999999999", "FD:3"})
        CHECK_FALSE(given_socket::number(text));
}

TEST_CASE("only a unix stream socket that listens will do") {
    std::string folder{"/tmp/inox-given-XXXXXX"};
    REQUIRE(::mkdtemp(folder.data()) != nullptr);
    const auto good = listener(AF_UNIX, SOCK_STREAM, folder + "/a", true);
    CHECK(given_socket::check(good.get()));
    CHECK(given_socket::path_of(good.get()) == folder + "/a");
    const auto silent = listener(AF_UNIX, SOCK_STREAM, folder + "/b", false);
    const auto packets = listener(AF_UNIX, SOCK_SEQPACKET, folder + "/c", true);
    const auto tcp = listener(AF_INET, SOCK_STREAM, {}, true);
    for (const int fd : {silent.get(), packets.get(), tcp.get(), 999'999, -1})
        CHECK(given_socket::check(fd).error().code == Errc::bad_option);
    CHECK(given_socket::path_of(tcp.get()).empty());
    for (const char* name : {"/a", "/b", "/c"})
        ::unlink((folder + name).c_str());
    ::rmdir(folder.c_str());
}

TEST_CASE("a service manager hands one socket over, to this process") {
    const auto own = std::to_string(::getpid());
    CHECK(with(own, "1") == "fd:3");
    CHECK(with(own, "2") == "!");
    CHECK(with(own, "0").empty());
    CHECK(with(own, "-1").empty());
    CHECK(with(own, "x").empty());
    CHECK(with(own + "0", "1").empty()); // it was for a parent
    CHECK(with("", "1").empty());
    CHECK(given_socket::of_service_manager().value_or("!").empty());
}

} // namespace inox::base_given_socket_test
