// SPDX-License-Identifier: Apache-2.0
// ELF executables for x86: 64-bit ones such as Linux's vmlinux, 32-bit ones with a PVH entry such as GRUB and Xen.
#pragma once

#include <optional>
#include <vector>

#include "vmm/base/range.hpp"
#include "vmm/boot/image.hpp"

namespace inox::boot {

/// A PT_LOAD segment with memory of its own.
struct ElfSegment {
    std::uint64_t offset;    ///< in the file
    std::uint64_t file_size; ///< at most memory_size; the rest is zero
    Gpa start;
    std::uint64_t memory_size; ///< not 0
};

struct ElfImage {
    Gpa entry;                      ///< 64-bit; of a file without a PVH entry
    std::optional<Gpa> pvh_entry{}; ///< 32-bit, from the Xen note; below 4 GiB
    std::vector<ElfSegment> segments{};
};

[[nodiscard]] bool is_elf(const Image& file);
/// Guarantees: every segment's bytes lie in the file; the PVH entry, or without one the 64-bit entry, lies in a
/// segment. Whether segments fit guest memory is for the loader to say.
Result<ElfImage> parse_elf(const Image& file);

} // namespace inox::boot
