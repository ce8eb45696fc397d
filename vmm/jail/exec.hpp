// SPDX-License-Identifier: Apache-2.0
// Last steps before a program, for both kinds of jail.
#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::jail {

/// A device file of the host that the jail gets, too.
struct DeviceFile {
    std::string path;
    mode_t kind; ///< S_IFCHR or S_IFBLK
    dev_t number;
};
/// bad_option for what is none.
Result<std::vector<DeviceFile>> look_at(const std::vector<std::string>& paths);

/// /dev/null.
Result<UniqueFd> open_nothing();
/// In place of 0 to 2.
void use_nothing(const UniqueFd& nothing);

/// execve(2) of the first word, with this environment; returns only when it failed, with errno.
void execute_program(const std::vector<std::string>& words, const std::vector<std::string>& environment);

} // namespace inox::jail
