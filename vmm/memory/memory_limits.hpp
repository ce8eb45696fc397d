// SPDX-License-Identifier: Apache-2.0
// What keeps this host from giving a guest its memory: free huge pages, control groups (versions 1 and 2), the
// process's own limits. /dev/shm's size is none of them: memfds do not count there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "vmm/base/error.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

/// The lowest limit for memory of this kind on the way from this process's control group to the root.
struct GroupLimit {
    std::string file{};    ///< that has it, such as "/sys/fs/cgroup/a/memory.max"
    std::uint64_t limit{}; ///< bytes
    std::uint64_t used{};  ///< bytes, by all who share the limit
};
/// nullopt: there is no limit. `root` is put before /proc and /sys.
std::optional<GroupLimit> group_limit(const std::string& root, HugePages pages);

/// memory_unavailable when a control group's limit on huge pages leaves less than `bytes`: the guest would end at the
/// first page above it. Reads nothing for other pages, which can be given back and swapped.
Result<void> check_memory_limits(const std::string& root, std::uint64_t bytes, HugePages pages);

/// Every limit that applies to memory of this kind, for the hint of an error: "... of ... used, ...".
std::string memory_limits_text(const std::string& root, HugePages pages);

} // namespace inox
