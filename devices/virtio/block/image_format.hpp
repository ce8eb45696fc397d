// SPDX-License-Identifier: Apache-2.0
// Files that are no raw disk images, known by their first bytes.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace inox::devices::virtio {

struct ForeignFormat {
    const char* name;     ///< "qcow2"
    const char* unpacker; ///< program that unpacks a compressed file; null for an image that qemu-img converts
};
/// Bytes from the start of a file that foreign_format() looks at.
inline constexpr std::size_t format_head = 512;
/// nullopt: raw, as far as its first bytes tell.
std::optional<ForeignFormat> foreign_format(std::span<const std::byte> head);
/// What makes a raw image of it, and how to use it as it is.
std::string conversion_hint(const ForeignFormat& format, const std::string& path);

} // namespace inox::devices::virtio
