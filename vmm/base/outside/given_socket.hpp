// SPDX-License-Identifier: Apache-2.0
// Sockets that whoever started this process has opened for it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace inox::given_socket {

/// The number in "fd:N", from 3 on; nullopt for other text.
std::optional<int> number(std::string_view path);
/// A unix stream socket that listens; bad_option, with the reason, when the descriptor is none.
Result<void> check(int fd);
/// The path that it is bound to; empty: none.
std::string path_of(int fd);

/// "fd:3" when a service manager hands one socket over, as sd_listen_fds(3) describes; empty when it hands none.
/// bad_option for several. Processes that are started later do not see it any more. While there is one thread.
Result<std::string> of_service_manager();

} // namespace inox::given_socket
