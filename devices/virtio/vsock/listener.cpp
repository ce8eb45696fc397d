// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock/listener.hpp"

#include <cerrno>
#include <cstring>
#include <optional>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/open_hint.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox::devices::virtio {
namespace {

constexpr std::size_t longest_path = VsockListener::longest_path;
static_assert(longest_path == sizeof(sockaddr_un::sun_path) - 1);

UniqueFd stream_socket() { return UniqueFd{::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)}; }

constexpr const char* shorter_hint = "use a shorter path, such as one relative to the working directory";

/// The path must leave room for the port numbers of a guest's connections.
Result<void> check_length(const std::string& path) {
    const auto problem = VsockListener::length_problem(path.size());
    return problem.empty() ? Result<void>{} : fail(Errc::config_value, problem, shorter_hint);
}

Result<void> check_address(const std::string& path) {
    if (path.empty() || path.size() > longest_path)
        return fail(Errc::config_value,
                    format("socket path of %zu bytes: it may have 1 to %zu", path.size(), longest_path), shorter_hint);
    return {};
}

/// Whether there is an old socket that may be replaced; refuses everything else.
Result<bool> is_left_over(const std::string& path) {
    struct stat there {};
    if (::lstat(path.c_str(), &there) != 0)
        return false;
    if (!S_ISSOCK(there.st_mode))
        return fail(Errc::already_exists, "'" + path + "' exists and is not a socket",
                    "give the vsock device a path of its own");
    if (connect_unix(path) || errno == EAGAIN) // as it says while there is no room for one more connection
        return fail(Errc::already_exists, "another process listens at '" + path + "'",
                    "give each guest a vsock path of its own");
    if (errno == ECONNREFUSED)
        return true;
    return fail_errno(Errc::already_exists, "cannot tell whether a process listens at '" + path + "'",
                      "give each guest a vsock path of its own");
}

std::unexpected<Error> cannot_make(const std::string& path) {
    return fail_errno(Errc::host_error, "cannot make the vsock socket '" + path + "'",
                      open_hint(errno, "does its folder exist, and may you write to it?"));
}

} // namespace

UniqueFd connect_unix(const std::string& path) {
    errno = 0;
    UniqueFd socket = stream_socket();
    if (!check_address(path) || !socket || !outside::connect(socket.get(), path))
        return {};
    return socket;
}

UniqueFd connect_unix_later(const std::string& path, UniqueFd& answer) {
    errno = 0;
    UniqueFd socket = stream_socket();
    if (!check_address(path) || !socket)
        return {};
    errno = outside::connect_later(socket.get(), path, answer);
    return errno == 0 || answer ? std::move(socket) : UniqueFd{};
}

std::string VsockListener::length_problem(std::size_t bytes) {
    if (bytes != 0 && bytes <= longest_uds_path)
        return {};
    if (bytes == 0)
        return "the vsock path is empty";
    return format("a vsock path of %zu bytes is %zu too long: a guest's port adds up to %zu (_4294967295), and a "
                  "unix socket takes at most %zu",
                  bytes, bytes - longest_uds_path, longest_path - longest_uds_path, longest_path);
}

Result<VsockListener> VsockListener::create(const std::string& path) {
    TRY_VOID(check_length(path));
    TRY_VOID(check_address(path));
    if (TRY(is_left_over(path)))
        outside::remove(path);
    VsockListener listener{stream_socket(), path};
    if (listener.fd() < 0 || !outside::bind(listener.fd(), path, S_IRUSR | S_IWUSR))
        return cannot_make(path);
    ::lstat(path.c_str(), &listener.identity_);
    if (::listen(listener.fd(), SOMAXCONN) != 0)
        return fail_errno(Errc::host_error, "cannot listen at '" + path + "'");
    return listener;
}

Result<void> VsockListener::check(const std::string& path) {
    TRY_VOID(check_length(path));
    TRY_VOID(is_left_over(path));
    errno = creation_error(path);
    return errno == 0 ? Result<void>{} : cannot_make(path);
}

VsockListener::~VsockListener() {
    struct stat now {};
    if (socket_ && identity_.st_ino != 0 && ::lstat(path_.c_str(), &now) == 0 && now.st_ino == identity_.st_ino &&
        now.st_dev == identity_.st_dev)
        outside::remove(path_);
}

UniqueFd VsockListener::accept() const {
    return UniqueFd{::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
}

} // namespace inox::devices::virtio
