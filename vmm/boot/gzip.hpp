// SPDX-License-Identifier: Apache-2.0
// Kernels in gzip, as some distributions ship them.
#pragma once

#include "vmm/boot/image.hpp"

namespace inox::boot {

/// A kernel that unpacks to more is refused: a small file can unpack to a thousand times its size.
inline constexpr std::uint64_t largest_unpacked = 1 * GiB;

[[nodiscard]] bool is_gzip(const Image& file);
/// All members of the archive, one after another (RFC 1952); what follows the last one is ignored, as gzip does.
/// Nothing of it is kept but its start: bytes are unpacked while they are read, anew when the reader goes back, which
/// it may do a few times. Measuring it checks the checksums. `file` outlives the image.
Result<Image> gunzip(const Image& file, std::uint64_t largest = largest_unpacked);

} // namespace inox::boot
