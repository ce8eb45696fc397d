// SPDX-License-Identifier: Apache-2.0
// Instructions that KVM may try for ever: its emulator reads and writes descriptors, their tables and the tables'
// registers in guest memory only, and where the guest has none it does not fail but enters the guest again at the same
// place, with an exit for a read each time or with none at all (Linux's arch/x86/kvm/emulate.c, users of read_std and
// write_std).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox {

/// Whether the instruction loads or stores a descriptor or the register of a descriptor table: LGDT, LIDT, SGDT, SIDT,
/// LLDT, LTR, loads of a segment register, far jumps, calls and returns, IRET.
[[nodiscard]] bool uses_descriptors(std::span<const std::uint8_t> instruction);

/// The end of a guest whose vCPU stands at such an instruction and gets no further.
[[nodiscard]] Error no_progress(unsigned vcpu, std::uint64_t rip, std::span<const std::uint8_t> instruction);

} // namespace inox
