// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/broker_wire.hpp"

#include <sys/uio.h>

#include <cerrno>
#include <utility>

#include "vmm/base/unix_socket.hpp"

namespace inox::confine::wire {

bool send(int socket, std::span<const std::byte> head, std::string_view text, std::span<const int> fds, int wait) {
    const std::array<iovec, 2> parts{iovec{const_cast<std::byte*>(head.data()), head.size()}, // NOLINT: only read
                                     iovec{const_cast<char*>(text.data()), text.size()}};     // NOLINT
    ssize_t sent = -1;
    do
        sent = send_passing(socket, std::span{parts}.first(text.empty() ? 1 : 2), fds, wait);
    while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

bool receive(int socket, Packet& packet) {
    for (auto& fd : packet.fds)
        fd.reset();
    std::size_t count = 0;
    Passed got;
    do
        got = receive_passed(socket, packet.bytes, 0, [&](UniqueFd fd) {
            if (count < packet.fds.size())
                packet.fds[count] = std::move(fd);
            ++count;
        });
    while (got.bytes < 0 && errno == EINTR);
    if (got.bytes <= 0)
        return false;
    packet.size = !got.cut && count <= packet.fds.size() ? static_cast<std::size_t>(got.bytes) : 0;
    return true;
}

} // namespace inox::confine::wire
