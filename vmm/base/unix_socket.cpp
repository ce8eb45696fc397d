// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/unix_socket.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

namespace inox {

std::optional<sockaddr_un> unix_address(std::string_view path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return std::nullopt;
    }
    path.copy(address.sun_path, path.size());
    return address;
}

bool bind_with_mode(int socket, const sockaddr_un& address, mode_t mode) {
    const mode_t before = ::umask(~mode & 0777U);
    const int result = ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address); // NOLINT
    const int error = errno;
    ::umask(before);
    errno = error;
    return result == 0;
}

ssize_t send_passing(int socket, std::span<const iovec> parts, std::span<const int> fds, int flags) noexcept {
    if (fds.size() > most_passed) {
        errno = EINVAL;
        return -1;
    }
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(most_passed * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data()); // NOLINT(*-const-cast): it is only read
    message.msg_iovlen = parts.size();
    if (!fds.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* const rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
    }
    return ::sendmsg(socket, &message, MSG_NOSIGNAL | flags);
}

Passed receive_passed(int socket, std::span<std::byte> to, int flags, const std::function<void(UniqueFd)>& take) {
    iovec part{to.data(), to.size()};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(most_passed * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
    if (got < 0)
        return {};
    for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
        if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS)
            continue;
        for (std::size_t at = 0; at + sizeof(int) <= one->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(one) + at, sizeof fd);
            take(UniqueFd{fd});
        }
    }
    return {got, (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0};
}

} // namespace inox
