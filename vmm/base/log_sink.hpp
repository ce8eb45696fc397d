// SPDX-License-Identifier: Apache-2.0
// The log for a process that is confined, and for its signal handlers.
#pragma once

namespace inox::log {

/// Where lines go now. Safe in a signal handler.
[[nodiscard]] int sink_fd() noexcept;
/// Opens what a line on standard error needs, for threads that can open nothing.
void prepare();

} // namespace inox::log
