// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/broker_wire.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace inox::confine::wire {
namespace {

constexpr std::size_t control_size = CMSG_SPACE(sizeof(int) * 8);

} // namespace

bool send(int socket, std::span<const std::byte> head, std::string_view text, std::span<const int> fds, int wait) {
    std::array<iovec, 2> parts{iovec{const_cast<std::byte*>(head.data()), head.size()}, // NOLINT: only read
                               iovec{const_cast<char*>(text.data()), text.size()}};     // NOLINT
    alignas(cmsghdr) std::array<std::byte, control_size> control{};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = text.empty() ? 1 : 2;
    if (!fds.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* const first = CMSG_FIRSTHDR(&message);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(first), fds.data(), fds.size_bytes());
    }
    ssize_t sent = -1;
    do
        sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | wait);
    while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

bool receive(int socket, Packet& packet) {
    for (auto& fd : packet.fds)
        fd.reset();
    iovec part{packet.bytes.data(), packet.bytes.size()};
    alignas(cmsghdr) std::array<std::byte, control_size> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = -1;
    do
        got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return false;
    std::size_t count = 0;
    for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
        if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS)
            continue;
        const std::size_t fds = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < fds; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(one) + i * sizeof(int), sizeof fd);
            UniqueFd owned{fd};
            if (count < packet.fds.size())
                packet.fds[count] = std::move(owned);
            ++count;
        }
    }
    const bool whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && count <= packet.fds.size();
    packet.size = whole ? static_cast<std::size_t>(got) : 0;
    return true;
}

} // namespace inox::confine::wire
