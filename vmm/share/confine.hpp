// SPDX-License-Identifier: Apache-2.0
// What the server's process gives up before it reads the first message.
#pragma once

#include "vmm/base/error.hpp"

namespace inox::share {

/// For this process, once and for ever: no new privileges, not to be traced or dumped, of root's capabilities only
/// those that files need; and, where the kernel has Landlock (5.19; 5.13 for `read_only`), nothing but what is in the
/// folder can be opened, made or removed. `folder`: an O_PATH descriptor. One thread.
Result<void> confine(int folder, bool read_only);

} // namespace inox::share
