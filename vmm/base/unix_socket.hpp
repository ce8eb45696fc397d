// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>
#include <sys/un.h>

#include <optional>
#include <string_view>

namespace inox {

/// Of a socket with a path of at most 107 bytes; else nullopt, with ENAMETOOLONG.
std::optional<sockaddr_un> unix_address(std::string_view path);

/// bind(2) that makes the file with exactly this mode, whatever the umask says: there is no moment at which it has
/// another. False with errno. The process's umask is another meanwhile: what other threads make then has no wider mode
/// than it asked for.
bool bind_with_mode(int socket, const sockaddr_un& address, mode_t mode);

} // namespace inox
