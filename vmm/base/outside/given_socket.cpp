// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/outside/given_socket.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

namespace inox::given_socket {
namespace {

constexpr int first = 3;

std::optional<int> whole_number(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() ? std::optional{value} : std::nullopt;
}

std::optional<int> variable(const char* name) {
    const char* const text = std::getenv(name); // NOLINT(concurrency-mt-unsafe): there is one thread
    return text != nullptr ? whole_number(text) : std::nullopt;
}

int option(int fd, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

} // namespace

std::optional<int> number(std::string_view path) {
    if (!path.starts_with("fd:"))
        return std::nullopt;
    const auto fd = whole_number(path.substr(3));
    return fd && *fd >= first ? fd : std::nullopt;
}

Result<void> check(int fd) {
    if (option(fd, SO_DOMAIN) == AF_UNIX && option(fd, SO_TYPE) == SOCK_STREAM && option(fd, SO_ACCEPTCONN) == 1)
        return {};
    return fail(Errc::bad_option, format("descriptor %d is not a unix stream socket that listens", fd),
                "whoever starts inox binds it, calls listen(2), and leaves it open");
}

std::string path_of(int fd) {
    sockaddr_un address{};
    socklen_t size = sizeof address;
    // NOLINTNEXTLINE: the socket interface casts
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 || address.sun_family != AF_UNIX ||
        size <= sizeof address.sun_family)
        return {};
    return {address.sun_path, ::strnlen(address.sun_path, size - sizeof address.sun_family)};
}

Result<std::string> of_service_manager() {
    const auto process = variable("LISTEN_PID");
    const auto count = variable("LISTEN_FDS");
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
        ::unsetenv(name); // NOLINT(concurrency-mt-unsafe)
    if (process != ::getpid() || count.value_or(0) <= 0)
        return std::string{};
    if (*count > 1)
        return fail(Errc::bad_option, format("the service manager hands over %d sockets", *count),
                    "inox serves its API on one: leave one ListenStream= in the socket unit, or name one with "
                    "--api-sock fd:N");
    return "fd:" + std::to_string(first);
}

} // namespace inox::given_socket
