// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/unix_socket.hpp"

#include <cerrno>
#include <sys/socket.h>
#include <sys/stat.h>

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

} // namespace inox
