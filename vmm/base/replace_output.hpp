// SPDX-License-Identifier: Apache-2.0
// Writes a report that others wait for.
#pragma once

#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace inox {

/// Replaces the file at once, so that a reader sees all of it or the one before; a pipe or a device gets the text as it
/// is. A new file is its owner's only (0600). output_unwritable.
Result<void> replace_output(const std::string& path, std::string_view text);

/// rename(2) of a file within its folder, which is on stable storage when this returns. False with errno. Makes the
/// system calls itself: see outside::rename().
bool rename_durably(const std::string& from, const std::string& to);

} // namespace inox
