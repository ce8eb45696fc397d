// SPDX-License-Identifier: Apache-2.0
// Puts a kernel, its initrd and command line, and everything the first instruction needs into guest memory.
#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>

#include "vmm/base/error.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::boot {

class Image;

struct LoadRequest {
    std::string kernel{}; ///< path of a bzImage or an ELF vmlinux, perhaps in gzip; empty for the built-in hello guest
    std::string initrd{}; ///< path; empty for none
    std::string cmdline{};
    std::stop_token stop{}; ///< ends reading and unpacking with wrong_state, within milliseconds
};

/// How the first vCPU starts.
struct Entry {
    enum class Mode : std::uint8_t {
        linux64, ///< 64-bit mode, paging on, RSI = boot_params (Linux x86 boot protocol, 64-bit)
        linux32, ///< 32-bit protected mode, paging off, ESI = boot_params (the same, 32-bit)
        pvh32,   ///< 32-bit protected mode, paging off, EBX = hvm_start_info
    };
    Mode mode{Mode::linux64};
    Gpa rip{};
    Gpa boot_info{};
};

enum class KernelKind : std::uint8_t { hello, bzimage, elf_pvh, elf64 };

struct Loaded {
    KernelKind kind{KernelKind::hello};
    Entry entry{};
    Range<Gpa> kernel{*Range<Gpa>::sized(Gpa{0}, 1)}; ///< what it occupies, including space it will unpack into
    std::optional<Range<Gpa>> initrd{};
};

/// Writes kernel, initrd, command line, boot_params or PVH start info (both name layout::acpi_tables as the RSDP), GDT
/// and boot page tables. Memory is assumed zeroed. Every error names the file and the value at fault.
Result<Loaded> load(const LoadRequest& request, const GuestMemory& memory);
/// The same for files already open; the paths in `request` are ignored. `initrd` may be null.
Result<Loaded> load_images(const Image& kernel, const Image* initrd, const LoadRequest& request,
                           const GuestMemory& memory);

} // namespace inox::boot
