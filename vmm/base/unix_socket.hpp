// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>
#include <sys/un.h>

#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "vmm/base/os.hpp"

struct iovec;

namespace inox {

/// Of a socket with a path of at most 107 bytes; else nullopt, with ENAMETOOLONG.
std::optional<sockaddr_un> unix_address(std::string_view path);

/// bind(2) that makes the file with exactly this mode, whatever the umask says: there is no moment at which it has
/// another. False with errno. The process's umask is another meanwhile: what other threads make then has no wider mode
/// than it asked for.
bool bind_with_mode(int socket, const sockaddr_un& address, mode_t mode);

/// The kernel's limit on descriptors of one message.
inline constexpr std::size_t most_passed = 253;
/// sendmsg(2) of the parts, with descriptors, which go with the first byte. -1 with errno; EINVAL beyond the limit.
ssize_t send_passing(int socket, std::span<const iovec> parts, std::span<const int> fds, int flags) noexcept;
/// recvmsg(2), which closes on exec what comes along: each descriptor goes to `take`. `cut`: part of the message, or of
/// its descriptors, is lost.
struct Passed {
    ssize_t bytes{-1}; ///< -1: errno
    bool cut{false};
};
Passed receive_passed(int socket, std::span<std::byte> to, int flags, const std::function<void(UniqueFd)>& take);

} // namespace inox
