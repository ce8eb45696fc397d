// SPDX-License-Identifier: Apache-2.0
// What a kernel is told at entry: Linux's boot_params, or PVH's hvm_start_info. Both are one page at
// layout::boot_params, both name layout::acpi_tables as the place of the RSDP.
#pragma once

#include <optional>
#include <string_view>

#include "vmm/boot/bzimage.hpp"
#include "vmm/boot/placement.hpp"

namespace inox::boot {

struct BootInfo {
    std::optional<Range<Gpa>> initrd{};
    std::string_view cmdline{};
};

/// `bzimage` gives the setup header; null for an ELF kernel.
Result<void> write_boot_params(const GuestMemory& memory, const BootInfo& info, const BzImage* bzimage);
Result<void> write_start_info(const GuestMemory& memory, const BootInfo& info);

} // namespace inox::boot
