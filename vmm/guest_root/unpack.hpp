// SPDX-License-Identifier: Apache-2.0
// Compressed files and tar archives, by libarchive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/guest_root/cpio.hpp"

namespace inox::guest_root {

/// The whole file, unpacked when it is gzip, xz, zstd or bzip2; at most `most` bytes. `code` for what is wrong with it.
Result<std::vector<std::byte>> read_unpacked(const std::string& path, std::uint64_t most, Errc code);

/// Whether the file is a tar archive, perhaps compressed, with something in it.
bool is_tar(const std::string& path);

/// Adds every entry of a tar archive below `folder`, with owner, mode, links and device files; without extended
/// attributes and access lists. root_invalid, initrd_does_not_fit; wrong_state once `stop` asks for it.
Result<void> add_tar(const std::string& path, const std::string& folder, CpioWriter& out, const std::stop_token& stop);

} // namespace inox::guest_root
