// SPDX-License-Identifier: Apache-2.0
// What a Linux kernel leaves in memory about itself for readers of a dump: the note VMCOREINFO
// (Documentation/admin-guide/kdump/vmcoreinfo.rst), lines of KEY=VALUE.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/memory/guest_memory.hpp"

namespace inox::boot {

/// Looks for it in all pages that the guest has touched, which takes about a tenth of a second for each 4 GiB; nothing
/// else becomes touched. nullopt: a kernel without it, or not yet. Any thread; the guest should stand still.
std::optional<std::string> find_vmcoreinfo(const GuestMemory& memory);

/// The value of "KEY=VALUE"; nullopt without such a line.
std::optional<std::string_view> vmcoreinfo_value(std::string_view info, std::string_view key);
/// The same of a hexadecimal number, as KERNELOFFSET is.
std::optional<std::uint64_t> vmcoreinfo_number(std::string_view info, std::string_view key);

} // namespace inox::boot
