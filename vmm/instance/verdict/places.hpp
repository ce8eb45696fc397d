// SPDX-License-Identifier: Apache-2.0
// Where the vCPUs of a guest that hangs are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/instance/verdict/symbols.hpp"
#include "vmm/machine/machine.hpp"

namespace inox {

struct VcpuPlace {
    unsigned id{};
    std::uint64_t rip{};
    bool user{};       ///< runs a program
    bool interrupts{}; ///< takes interrupts
    bool halted{};     ///< waits for one
    bool started{true};
    /// Return addresses on the kernel's stack, the innermost first: by frame pointers, where the kernel has them, else
    /// what may be one.
    std::vector<std::uint64_t> trace{};
};

/// Stops the guest for a moment. `symbols`, if there are any, and `moved` (how far the kernel runs from where it was
/// linked) tell which words on a stack are return addresses; null: the range of a kernel's text does.
std::vector<VcpuPlace> find_places(Machine& machine, const Symbols* symbols, std::uint64_t moved);

/// "vCPU 0: 0xffffffff81234567 native_halt+0x7, in the kernel, interrupts on, halted; from a+0x1, b+0x2"
std::string place_text(const VcpuPlace& place, const Symbols* symbols, std::uint64_t moved);
/// "native_halt+0x7", or the address as a number.
std::string address_text(std::uint64_t address, const Symbols* symbols, std::uint64_t moved);

} // namespace inox
