// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/loader_checks.hpp"
#include "vmm/boot/elf.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = vmm::boot::Image::of(std::as_bytes(std::span{data, size}), "fuzz", vmm::boot::Image::kernel);
    if (const auto image = vmm::boot::parse_elf(file))
        for (const auto& segment : image->segments)
            fuzz::require(segment.offset <= size && segment.file_size <= size - segment.offset &&
                          segment.file_size <= segment.memory_size);
    return fuzz::load(data, size);
}
