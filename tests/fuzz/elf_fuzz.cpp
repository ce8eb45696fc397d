// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/loader_checks.hpp"
#include "vmm/boot/elf.hpp"

using namespace inox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = boot::Image::of(std::as_bytes(std::span{data, size}), "fuzz", boot::Image::kernel);
    if (const auto image = boot::parse_elf(file))
        for (const auto& segment : image->segments)
            fuzz::require(segment.offset <= size && segment.file_size <= size - segment.offset &&
                          segment.file_size <= segment.memory_size);
    return fuzz::load(data, size);
}
