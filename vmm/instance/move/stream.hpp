// SPDX-License-Identifier: Apache-2.0
// STREAM of a command: unix:PATH, or fd:N for a connected descriptor that the command has.
#pragma once

#include <string>

#include "vmm/base/os.hpp"

namespace inox::move {

struct Stream {
    std::string path{}; ///< of a unix socket; empty: the descriptor
    int fd{-1};
};
/// bad_option.
Result<Stream> parse_stream(const std::string& text);

/// Waits for one connection to a socket that it makes at the path, and removes; or takes the descriptor. in_use,
/// host_error.
Result<UniqueFd> accept_one(const Stream& stream);

} // namespace inox::move
