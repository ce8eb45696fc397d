// SPDX-License-Identifier: Apache-2.0
// What a process has of its own, and what it gives up.
#pragma once

#include <span>
#include <string>

#include "vmm/base/os.hpp"
#include "vmm/jail/options.hpp"

namespace inox::jail {

/// Of `netns` in the options: joins it, or makes one whose loopback is up. Empty: nothing.
Result<void> enter_network(const std::string& netns);

/// Soft and hard. The jailer's text.
Result<void> set_limits(std::span<const Limit> limits);

/// A mount namespace, to which the host's later mounts propagate and none of its own leads back, and System V objects
/// and a host name of its own.
Result<void> leave_mounts();

/// The mount point that is the current directory becomes /, and the host's mounts are gone.
Result<void> pivot_here();

/// /proc of the PID namespace in which the caller is, opened while it can be seen.
UniqueFd open_proc();

/// A user namespace with this one user and group, of the same numbers; for a caller who is both. `proc`: open_proc().
Result<void> enter_user_namespace(int proc, uid_t uid, gid_t gid);

/// The user and group of the options, their user namespace unless `in_user_ns`, and no new privileges; capabilities go
/// with the user, or with the next execve(2).
Result<void> drop_privileges(const Options& options, int proc, bool in_user_ns);

} // namespace inox::jail
