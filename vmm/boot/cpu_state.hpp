// SPDX-License-Identifier: Apache-2.0
// Registers of the first vCPU at its first instruction. Application processors keep KVM's reset state and wait for INIT
// and SIPI.
#pragma once

#include <array>
#include <linux/kvm.h>

#include "vmm/base/error.hpp"
#include "vmm/boot/loader.hpp"

namespace inox::boot {

/// `sregs` comes from KVM_GET_SREGS and keeps what the entry does not define (APIC base); `regs` is overwritten.
void set_initial_state(const Entry& entry, kvm_sregs& sregs, kvm_regs& regs);

/// x87 and SSE as after reset and FNINIT.
kvm_fpu initial_fpu();

/// What firmware leaves behind on every vCPU: MTRRs on with default write-back, fast string operations on.
std::array<kvm_msr_entry, 2> initial_msrs();

/// GDT, identity map of the low 4 GiB and reset code, at their places in layout.hpp. load() calls it.
Result<void> write_boot_tables(const GuestMemory& memory, Entry::Mode mode = Entry::Mode::linux64);

} // namespace inox::boot
