// SPDX-License-Identifier: Apache-2.0
// Errors in the words of Firecracker's jailer, which its callers match on.
#pragma once

#include <string>

#include "vmm/base/error.hpp"

namespace inox::jail {

/// "No such file or directory (os error 2)"; of the current errno.
std::string os_text();
/// "TEXT: No such file or directory (os error 2)": host_error, with the current errno,
/// and what to do about it.
std::unexpected<Error> fail_os(const std::string& text, std::string hint = {});

} // namespace inox::jail
