// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/no_progress.hpp"

#include "vmm/base/hex.hpp"

namespace inox {
namespace {

/// Legacy prefixes and REX (SDM volume 2, 2.1.1 and 2.2.1). In 32-bit code 40..4f are INC and DEC. KVM never repeats
/// those without progress, so skipping them does no harm.
constexpr bool is_prefix(std::uint8_t byte) {
    switch (byte) {
    case 0x26: // segments
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66: // sizes
    case 0x67:
    case 0xf0: // lock and repeat
    case 0xf2:
    case 0xf3:
        return true;
    default:
        return (byte & 0xf0) == 0x40;
    }
}

constexpr unsigned reg_field(std::uint8_t modrm) { return modrm >> 3 & 7; }
constexpr bool in_memory(std::uint8_t modrm) { return modrm >> 6 != 3; }

bool two_byte(std::uint8_t opcode, std::uint8_t modrm) {
    switch (opcode) {
    case 0x00: // LLDT, LTR
        return reg_field(modrm) == 2 || reg_field(modrm) == 3;
    case 0x01: // SGDT, SIDT, LGDT, LIDT
        return reg_field(modrm) <= 3 && in_memory(modrm);
    case 0xb2: // LSS, LFS, LGS
    case 0xb4:
    case 0xb5:
    case 0xa1: // POP FS, GS
    case 0xa9:
        return true;
    default:
        return false;
    }
}

bool one_byte(std::uint8_t opcode, std::uint8_t modrm) {
    switch (opcode) {
    case 0x07: // POP ES, SS, DS
    case 0x17:
    case 0x1f:
    case 0x8e: // MOV to a segment register
    case 0x9a: // far CALL, JMP
    case 0xea:
    case 0xc4: // LES, LDS; VEX prefixes in 64-bit mode, whose instructions never stand still
    case 0xc5:
    case 0xca: // far RET
    case 0xcb:
    case 0xcf: // IRET
        return true;
    case 0xff: // far CALL, JMP through memory
        return (reg_field(modrm) == 3 || reg_field(modrm) == 5) && in_memory(modrm);
    default:
        return false;
    }
}

} // namespace

bool uses_descriptors(std::span<const std::uint8_t> instruction) {
    while (!instruction.empty() && is_prefix(instruction.front()))
        instruction = instruction.subspan(1);
    const auto at = [&](std::size_t i) { return i < instruction.size() ? instruction[i] : std::uint8_t{0}; };
    if (instruction.empty())
        return false;
    return instruction.front() == 0x0f ? two_byte(at(1), at(2)) : one_byte(instruction.front(), at(1));
}

Error no_progress(unsigned vcpu, std::uint64_t rip, std::span<const std::uint8_t> instruction) {
    std::string what = format("vCPU %u: KVM retries the instruction at RIP %#llx for ever, bytes:", vcpu, hex(rip));
    for (const auto byte : instruction)
        what += format(" %02x", byte);
    return make_error(Errc::guest_emulation_failure, std::move(what),
                      "its operand, or a descriptor table it uses, lies where the guest has no memory");
}

} // namespace inox
