// SPDX-License-Identifier: Apache-2.0
// What must hold whatever a kernel file says: a clear error, or a guest whose pieces lie in RAM, apart from each other.
#pragma once

#include <span>

#include "tests/fuzz/input.hpp"
#include "vmm/boot/image.hpp"
#include "vmm/boot/loader.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::fuzz {

inline void check_error(const Error& error) {
    using enum Errc;
    require(error.code == kernel_invalid || error.code == kernel_does_not_fit || error.code == initrd_does_not_fit ||
            error.code == cmdline_too_long);
    require(!error.what.empty() && !error.hint.empty());
}

inline void check_loaded(const boot::Loaded& loaded, const GuestMemory& memory) {
    require(memory.host(loaded.kernel).has_value());
    require(loaded.kernel.contains(loaded.entry.rip));
    require(loaded.entry.boot_info == layout::boot_params);
    require(loaded.initrd && memory.host(*loaded.initrd).has_value());
    require(loaded.initrd->start() >= layout::high_ram);
}

inline int load(const std::uint8_t* data, std::size_t size) {
    using namespace inox;
    static const GuestMemory memory = GuestMemory::create(16 * MiB, HugePages::none).value();
    static const std::vector<std::byte> initrd_bytes(5000);
    const auto kernel = boot::Image::of(std::as_bytes(std::span{data, size}), "fuzz", boot::Image::kernel);
    const auto initrd = boot::Image::of(initrd_bytes, "fuzz", boot::Image::initrd);
    const auto loaded = boot::load_images(kernel, &initrd, {.cmdline = "console=ttyS0"}, memory);
    if (loaded)
        check_loaded(*loaded, memory);
    else
        check_error(loaded.error());
    return 0;
}

} // namespace inox::fuzz
