// SPDX-License-Identifier: Apache-2.0
// Linux bzImage (Documentation/arch/x86/boot.rst), entered at its 64-bit entry, or at the 32-bit one where it has no
// other.
#pragma once

#include <array>

#include "vmm/base/range.hpp"
#include "vmm/boot/image.hpp"

namespace inox::boot {

struct BzImage {
    /// The setup header as the file has it, zero-padded: it goes into boot_params at 0x1f1.
    std::array<std::byte, 0x7b> setup_header{};
    std::uint64_t payload_offset{}; ///< of the protected-mode kernel in the file
    std::uint64_t payload_size{};   ///< of the file; up to 15 bytes less than the header says, which counts paragraphs
    bool entry64{true};             ///< 0x200 from `load`, in 64-bit mode; else at `load`, in 32-bit protected mode
    Gpa load{};                     ///< aligned as the kernel asks
    std::uint64_t memory_size{};    ///< from `load`: what it needs before it reads the memory map
    Gpa initrd_last{};              ///< last byte an initrd may occupy
    std::uint32_t max_cmdline_size{}; ///< without the final NUL
};

[[nodiscard]] bool is_bzimage(const Image& file);
/// Guarantees: the payload lies in the file and is not empty; payload_size <= memory_size.
Result<BzImage> parse_bzimage(const Image& file);

} // namespace inox::boot
