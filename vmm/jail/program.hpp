// SPDX-License-Identifier: Apache-2.0
// A program in a jail, as Firecracker's jailer does it: a folder CHROOT/EXEC/ID/root with a copy of the program, its
// device files and its pid.
#pragma once

#include "vmm/base/error.hpp"
#include "vmm/jail/options.hpp"

namespace inox::jail {

/// Becomes the program; returns only with an error, or with 0 in a process that has started another one in its place.
/// Closes every descriptor but 0 to 2 and forgets the environment. One thread.
Result<int> become_program(const Options& options);

} // namespace inox::jail
