// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/unix_socket.hpp"

#include <cerrno>
#include <sys/socket.h>
#include <sys/stat.h>

namespace inox {

bool bind_with_mode(int socket, const sockaddr_un& address, mode_t mode) {
    const mode_t before = ::umask(~mode & 0777U);
    const int result = ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address); // NOLINT
    const int error = errno;
    ::umask(before);
    errno = error;
    return result == 0;
}

} // namespace inox
