// SPDX-License-Identifier: Apache-2.0
// Files that are no raw disk images, known by their first or last bytes.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace inox::devices::virtio {

struct ForeignFormat {
    const char* name;      ///< "qcow2"
    const char* converter; ///< command that makes a raw image of it: IN and OUT stand for the files
};
/// Bytes from the start of a file, and from its end, that foreign_format() looks at.
inline constexpr std::size_t format_head = 512;
inline constexpr std::size_t format_tail = 512;
/// nullopt: raw, as far as its first and last bytes tell. Both are empty or shorter for a file that has no more.
std::optional<ForeignFormat> foreign_format(std::span<const std::byte> head, std::span<const std::byte> tail);
/// What makes a raw image of it, for a shell.
std::string conversion_hint(const ForeignFormat& format, const std::string& path);

} // namespace inox::devices::virtio
