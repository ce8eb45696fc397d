// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/hello.hpp"

// INOX_HELLO_IMAGE is the path of the flat image; the build makes this file depend on it.
asm(".pushsection .rodata, \"a\"\n"
    ".balign 16\n"
    "inox_hello_image:\n"
    ".incbin \"" INOX_HELLO_IMAGE "\"\n"
    "inox_hello_image_end:\n"
    ".popsection");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte inox_hello_image[];
[[gnu::visibility("hidden")]] extern const std::byte inox_hello_image_end[];
}

namespace inox::boot {

std::span<const std::byte> hello_image() { return {inox_hello_image, inox_hello_image_end}; }

} // namespace inox::boot
