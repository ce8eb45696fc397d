// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/move/stream.hpp"

#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/unix_socket.hpp"

namespace inox::move {

Result<Stream> parse_stream(const std::string& text) {
    Stream out;
    if (text.starts_with("unix:") && text.size() > 5) {
        out.path = text.substr(5);
        if (!unix_address(out.path))
            return fail(Errc::bad_option, "the path of the socket is too long", "use one of at most 107 bytes");
        return out;
    }
    if (text.starts_with("fd:")) {
        const auto* const end = text.data() + text.size();
        const auto [stop, error] = std::from_chars(text.data() + 3, end, out.fd);
        if (error == std::errc{} && stop == end && out.fd > 2)
            return out;
    }
    return fail(Errc::bad_option, "'" + text + "' is no stream", "write unix:PATH or fd:N");
}

Result<UniqueFd> accept_one(const Stream& stream) {
    if (stream.path.empty()) {
        UniqueFd own{::fcntl(stream.fd, F_DUPFD_CLOEXEC, 3)}; // NOLINT(*-vararg)
        int type = 0;
        socklen_t size = sizeof type;
        if (!own || ::getsockopt(own.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM)
            return fail(Errc::bad_option, "descriptor " + std::to_string(stream.fd) + " is no connected stream socket",
                        "pass one that the process was started with");
        return own;
    }
    UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const auto address = unix_address(stream.path);
    if (!listener || !address || !bind_with_mode(listener.get(), *address, 0600))
        return fail_errno(errno == EADDRINUSE ? Errc::in_use : Errc::host_error,
                          "cannot make the socket " + stream.path, "remove it, if nothing listens there");
    UniqueFd connection;
    if (::listen(listener.get(), 1) == 0)
        do
            connection = UniqueFd{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
        while (!connection && errno == EINTR);
    ::unlink(stream.path.c_str());
    if (!connection)
        return fail_errno(Errc::host_error, "waiting for a guest at " + stream.path);
    return connection;
}

} // namespace inox::move
