// SPDX-License-Identifier: Apache-2.0
// The root that `inox run` has in a jail: a file system of its own in memory, with what its configuration needs.
#pragma once

#include <string>
#include <vector>

#include "vmm/jail/needs.hpp"
#include "vmm/jail/options.hpp"

namespace inox::jail {

inline constexpr const char* program_path = "/inox";

/// Makes it and enters it, with `folder` as the current directory. For the first process of a PID namespace. `program`:
/// inox's own path.
Result<void> enter_room(const Options& options, const Needs& needs, const std::string& program,
                        const std::string& folder);

} // namespace inox::jail
