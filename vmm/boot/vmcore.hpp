// SPDX-License-Identifier: Apache-2.0
// A guest's memory and CPUs as an ELF core file, which crash and drgn open. ELF-64 Object File Format, version 1.5; the
// notes are those that QEMU's dump-guest-memory writes, which both readers know.
#pragma once

#include <linux/kvm.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "vmm/memory/guest_memory.hpp"

namespace inox::boot {

struct CoreCpu {
    kvm_regs general{};
    kvm_sregs special{};
};

/// All that stands before the memory in the file: headers and notes, and where each region of RAM begins. The file has
/// the whole RAM; of pages that the guest has not touched it has holes.
class Vmcore {
public:
    /// `info`: the text of VMCOREINFO; empty for a kernel without it.
    Vmcore(const GuestMemory& memory, std::span<const CoreCpu> cpus, std::string_view info);

    /// Size of the whole file in bytes, with its holes.
    [[nodiscard]] std::uint64_t size() const { return size_; }
    /// Writes it to an empty regular file; `stop` ends it early (wrong_state). The guest stands still. Any thread.
    /// Errors: output_unwritable.
    [[nodiscard]] Result<void> write(int file, const std::atomic<bool>& stop) const;

private:
    const GuestMemory& memory_;
    std::string head_{};
    std::uint64_t memory_at_{};
    std::uint64_t size_{};
};

} // namespace inox::boot
