// SPDX-License-Identifier: Apache-2.0
// Replies that list a folder.
#pragma once

#include "vmm/share/folder.hpp"
#include "vmm/share/libfuse.hpp"

namespace inox::share {

// NOLINTBEGIN(bugprone-easily-swappable-parameters): libfuse's order
/// Names, in at most `size` bytes, from the place that `offset` stands for.
void list(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* info);
/// The same, each with what a look-up would tell, which counts as a look-up.
void list_with_attributes(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* info);
// NOLINTEND(bugprone-easily-swappable-parameters)

/// How long the guest may take what it knows for true, in seconds: another program of the host may change the folder.
inline constexpr double believed = 1.0;

/// As in a reply to a look-up.
inline fuse_entry_param entry_of(const Entry& entry) {
    fuse_entry_param out{};
    out.ino = entry.node;
    out.attr = entry.status;
    out.attr_timeout = out.entry_timeout = believed;
    return out;
}

} // namespace inox::share
