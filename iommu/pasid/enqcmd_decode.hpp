// SPDX-License-Identifier: Apache-2.0
// Decodes the three instructions that store 64 bytes at once: ENQCMD, ENQCMDS and MOVDIR64B (Intel SDM volume 2). Pure:
// neither registers nor memory are looked at.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace inox::iommu {

/// Default code size of the segment the instruction was fetched from.
enum class CodeSize : std::uint8_t { bits16, bits32, bits64 };

/// In the order of the encoding, as KVM's kvm_sregs and x86's override prefixes name them.
enum class SegmentName : std::uint8_t { es, cs, ss, ds, fs, gs };

enum class EnqueueKind : std::uint8_t {
    enqcmd,    ///< F2 0F 38 F8: PASID from IA32_PASID
    enqcmds,   ///< F3 0F 38 F8: PASID and privilege from the source
    movdir64b, ///< 66 0F 38 F8: no PASID, no answer
};

/// A decoded instruction. Register numbers are the encoding's: 0 to 15 for RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI,
/// R8...
struct EnqueueInstruction {
    static constexpr std::uint8_t none = 0xff;

    EnqueueKind kind{};
    std::uint8_t length{};        ///< bytes, 5 to 15
    std::uint8_t address_bytes{}; ///< 2, 4 or 8: the width of both addresses
    std::uint8_t destination{};   ///< register with the offset in ES
    bool lock{};                  ///< a LOCK prefix stands before it: #UD
    // The source: segment : base + (index << shift) + displacement, plus the next instruction's address when relative.
    bool rip_relative{};
    SegmentName segment{SegmentName::ds};
    std::uint8_t base{none};
    std::uint8_t index{none};
    std::uint8_t shift{};
    std::int32_t displacement{};

    bool operator==(const EnqueueInstruction&) const = default;
};

inline constexpr std::size_t longest_instruction = 15;

/// `bytes` starts at the instruction and may go on behind it; beyond 15 bytes nothing is looked at. nullopt for any
/// other instruction, a register source, and one that does not end within the bytes.
[[nodiscard]] std::optional<EnqueueInstruction> decode_enqueue(std::span<const std::uint8_t> bytes,
                                                               CodeSize code) noexcept;

} // namespace inox::iommu
