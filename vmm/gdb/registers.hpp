// SPDX-License-Identifier: Apache-2.0
// The registers of a vCPU as GDB numbers them, and the target description that says so. The layout is that of 64-bit
// mode whatever mode the vCPU is in, because GDB cannot change it during a session.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace inox::gdb {

struct Registers {
    kvm_regs general{};
    kvm_sregs special{};
    std::uint64_t kernel_gs_base{}; ///< read only
    kvm_fpu fpu{};
    std::array<std::array<std::byte, 16>, 16> ymm_high{}; ///< the upper halves of YMM0 to YMM15
};

/// The XML document that GDB asks for.
const std::string& target_description();

/// All registers in the order of the target description, for the packet g.
std::string encode(const Registers& registers);
/// Register `number` for the packet p; nullopt: there is none.
std::optional<std::string> encode(const Registers& registers, std::uint64_t number);
/// The packets G and P. False, and nothing changed, when the bytes are not what the register has.
bool decode(std::span<const std::byte> bytes, Registers& registers);
bool decode(std::uint64_t number, std::span<const std::byte> bytes, Registers& registers);

} // namespace inox::gdb
