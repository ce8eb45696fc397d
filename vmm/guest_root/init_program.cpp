// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/init_program.hpp"

// INOX_INIT_PROGRAM is the path of the program; the build makes this file depend on it.
asm(".pushsection .rodata, \"a\"\n"
    ".balign 16\n"
    "inox_init_program:\n"
    ".incbin \"" INOX_INIT_PROGRAM "\"\n"
    "inox_init_program_end:\n"
    ".popsection");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte inox_init_program[];
[[gnu::visibility("hidden")]] extern const std::byte inox_init_program_end[];
}

namespace inox::guest_root {

std::span<const std::byte> init_program() { return {inox_init_program, inox_init_program_end}; }

} // namespace inox::guest_root
