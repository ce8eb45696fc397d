// SPDX-License-Identifier: Apache-2.0
// What the path of --root is.
#pragma once

#include <cstdint>
#include <string>

#include "vmm/base/error.hpp"

namespace inox::guest_root {

struct RootKind {
    enum class Type : std::uint8_t { folder, disk, archive };
    Type type{Type::folder};
    std::string file_system{}; ///< of a disk, as mount(2) calls it
    unsigned partition{0};     ///< of a disk, from 1; 0: the file system is the whole disk
};

/// A folder; a file or block device with a file system at its start, or in one of its partitions; a tar archive.
/// root_missing, root_invalid.
Result<RootKind> look_at_root(const std::string& path);

} // namespace inox::guest_root
