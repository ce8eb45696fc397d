// SPDX-License-Identifier: Apache-2.0
// The control groups of a jail: one below the parent group in cgroup v2, or one in each hierarchy of v1 that a value
// names.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/jail/options.hpp"

namespace inox::jail {

class Cgroups {
public:
    /// Finds the hierarchies; makes nothing. bad_option, host_error. `root` is put before /proc/mounts and the paths in
    /// it.
    static Result<Cgroups> plan(const Options& options, const std::string& root = {});
    /// Makes the groups and writes the values; a group that exists is used.
    Result<void> make() const;
    /// 0: the caller.
    Result<void> join(pid_t pid) const;
    /// Those that make() makes for this jail alone.
    [[nodiscard]] std::vector<std::string> own() const;

private:
    struct Group {
        std::string mount;
        std::string path; ///< with the mount point
        std::vector<CgroupValue> values{};
        bool own{true}; ///< false: it exists, and others may use it
    };
    Result<void> plan_unified(const Options& options, const std::string& mount);
    [[nodiscard]] Result<void> make(const Group& group) const;
    [[nodiscard]] Result<void> hand_controllers_down(const Group& group) const;

    std::vector<Group> groups_{};
    std::string parent_{};
    bool unified_{false};
};

/// Removes a group that nobody is in, and those above it that make() made and that nothing is in. Waits up to about two
/// seconds for processes that are ending.
void remove_group(const std::string& path);

} // namespace inox::jail
