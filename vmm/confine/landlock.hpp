// SPDX-License-Identifier: Apache-2.0
// Landlock: the kernel refuses this thread, and those it makes from then on, to open files by their paths.
// Linux 5.13 and later; Documentation/userspace-api/landlock.rst.
#pragma once

#include <span>
#include <string>

#include "vmm/base/error.hpp"

namespace inox::confine::landlock {

/// The version that this kernel offers; 0: none, or it is turned off.
[[nodiscard]] int version() noexcept;

/// For the calling thread and those that it makes later, for ever; threads that exist stay as they are. Files beneath
/// `readable` can be opened for reading, and no others at all; nothing can be made, removed or executed. Where the
/// version has it, too: no TCP socket is bound or connected (4), no abstract socket outside is reached and no process
/// outside gets a signal (6). Descriptors that are open stay as they are. Takes effect as far as `abi`, a version(),
/// goes; with 0 nothing happens. Paths that do not exist are left out. Also sets no_new_privs. host_error.
/// Beneath `writable` files can also be written, made, removed and renamed, and devices used. Only the first version
/// does without renaming.
Result<void> restrict_thread(std::span<const std::string> readable, int abi,
                             std::span<const std::string> writable = {});

} // namespace inox::confine::landlock
