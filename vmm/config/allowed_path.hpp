// SPDX-License-Identifier: Apache-2.0
// --allow PATH[:ro]: what a confined inox may open beyond what its configuration names.
#pragma once

#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace inox {

struct AllowedPath {
    std::string path{}; ///< a file, or a folder with all that is beneath it, now or later
    bool read_only{false};
    bool operator==(const AllowedPath&) const = default;
};

/// "PATH" or "PATH:ro"; a relative path starts at `folder`. config_value when the path is empty or holds a NUL. A path
/// whose own name ends in ":ro" is written "PATH:rw".
Result<AllowedPath> parse_allowed_path(std::string_view text, std::string_view folder = {});

} // namespace inox
