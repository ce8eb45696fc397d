// SPDX-License-Identifier: Apache-2.0
// Files and folders of the host that a jail shows under the same paths.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::jail {

struct Bind {
    std::string path; ///< absolute
    bool writable{true};
};
/// Of "PATH" or "PATH:ro".
Bind parse_bind(const std::string& text);

/// Opened before the root changes, put in place behind that.
class Binds {
public:
    /// In the mount namespace that the jail will have. What does not exist is left out: the program says so itself.
    /// bad_option for the whole root, host_error.
    static Result<Binds> open(std::span<const Bind> wanted);
    /// Below the new root. Symbolic links on the way to a path lead to the same place as on the host.
    Result<void> put() const;
    /// The only one, at another path.
    Result<void> put_at(const std::string& path) const;

private:
    struct Open {
        std::string path;  ///< without symbolic links
        std::string alias; ///< as it was named; empty: the same
        UniqueFd tree;
        bool folder;
    };
    std::vector<Open> all_{};
};

} // namespace inox::jail
