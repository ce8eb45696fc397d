// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock/connection.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <sys/socket.h>

namespace inox::devices::virtio {
namespace {

/// Returns how many bytes the socket took; -1 when nobody reads it any more.
ssize_t send_some(int socket, std::span<const iovec> pieces) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(pieces.data()); // NOLINT: sendmsg does not write through it
    message.msg_iovlen = std::min<std::size_t>(pieces.size(), IOV_MAX);
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    const bool later = sent < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM);
    return later ? 0 : sent;
}

} // namespace

bool VsockConnection::write(std::span<const iovec> pieces, std::uint32_t bytes) {
    ssize_t sent = 0;
    if (socket && backlog.empty())
        sent = send_some(socket.get(), pieces);
    if (!socket || sent < 0) {
        flow.forwarded(bytes);
        return false;
    }
    flow.forwarded(static_cast<std::uint32_t>(sent));
    auto skip = static_cast<std::size_t>(sent);
    for (const iovec& piece : pieces) {
        const std::size_t part = std::min(skip, piece.iov_len);
        backlog.append({static_cast<const std::byte*>(piece.iov_base) + part, piece.iov_len - part});
        skip -= part;
    }
    return true;
}

bool VsockConnection::flush() {
    while (!backlog.empty()) {
        const auto front = backlog.front();
        const iovec piece{const_cast<std::byte*>(front.data()), front.size()}; // NOLINT: only read
        const ssize_t sent = socket ? send_some(socket.get(), {&piece, 1}) : -1;
        if (sent < 0) {
            flow.forwarded(static_cast<std::uint32_t>(backlog.size()));
            backlog.clear();
            return false;
        }
        if (sent == 0)
            return true;
        flow.forwarded(static_cast<std::uint32_t>(sent));
        backlog.consume(static_cast<std::size_t>(sent));
    }
    if (guest_sent_all && socket)
        ::shutdown(socket.get(), SHUT_WR);
    return true;
}

} // namespace inox::devices::virtio
