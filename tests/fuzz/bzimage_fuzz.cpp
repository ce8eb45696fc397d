// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/loader_checks.hpp"
#include "vmm/boot/bzimage.hpp"

using namespace inox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = boot::Image::of(std::as_bytes(std::span{data, size}), "fuzz", boot::Image::kernel);
    if (const auto image = boot::parse_bzimage(file))
        fuzz::require(image->payload_size > (image->entry64 ? 0x200 : 0) &&
                      image->payload_offset + image->payload_size <= size && image->payload_size <= image->memory_size);
    return fuzz::load(data, size);
}
