// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/enqcmd_decode.hpp"

#include <algorithm>
#include <array>

namespace inox::iommu {
namespace {

constexpr std::uint8_t none = EnqueueInstruction::none;
constexpr std::uint8_t rsp = 4;
constexpr std::uint8_t rbp = 5;

/// Takes bytes from the front. Reading beyond the end gives 0 and is remembered.
class Bytes {
public:
    explicit Bytes(std::span<const std::uint8_t> bytes)
        : bytes_{bytes.first(std::min(bytes.size(), longest_instruction))} {}
    [[nodiscard]] std::uint8_t peek() const { return at_ < bytes_.size() ? bytes_[at_] : std::uint8_t{0}; }
    std::uint8_t take() {
        if (at_ >= bytes_.size()) {
            short_ = true;
            return 0;
        }
        return bytes_[at_++];
    }
    /// A little-endian number, sign-extended.
    std::int32_t take_signed(unsigned size) {
        std::uint32_t value = 0;
        for (unsigned i = 0; i < size; ++i)
            value |= std::uint32_t{take()} << (8 * i);
        if (size == 1)
            return static_cast<std::int8_t>(value);
        if (size == 2)
            return static_cast<std::int16_t>(value);
        return static_cast<std::int32_t>(value);
    }
    [[nodiscard]] std::uint8_t taken() const { return static_cast<std::uint8_t>(at_); }
    [[nodiscard]] bool ran_out() const { return short_; }

private:
    std::span<const std::uint8_t> bytes_;
    std::size_t at_{0};
    bool short_{false};
};

struct Prefixes {
    std::uint8_t repeat{};                ///< the last of F2 and F3
    std::uint8_t rex{};                   ///< 0 when absent
    bool operand_size{};                  ///< 66
    bool address_size{};                  ///< 67
    bool lock{};                          ///< F0
    std::optional<SegmentName> segment{}; ///< the last override that has an effect
};

/// True when `byte` is a legacy prefix; it is then noted.
bool note_prefix(std::uint8_t byte, bool long_mode, Prefixes& prefixes) {
    switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
        // In 64-bit mode these four have no effect, and do not cancel an FS or GS before them.
        if (!long_mode)
            prefixes.segment = static_cast<SegmentName>(byte >> 3 & 3);
        return true;
    case 0x64:
        prefixes.segment = SegmentName::fs;
        return true;
    case 0x65:
        prefixes.segment = SegmentName::gs;
        return true;
    case 0x66:
        prefixes.operand_size = true;
        return true;
    case 0x67:
        prefixes.address_size = true;
        return true;
    case 0xf0:
        prefixes.lock = true;
        return true;
    case 0xf2:
    case 0xf3:
        prefixes.repeat = byte;
        return true;
    default:
        return false;
    }
}

Prefixes take_prefixes(Bytes& bytes, bool long_mode) {
    Prefixes prefixes;
    for (;;) {
        const std::uint8_t byte = bytes.peek();
        if (note_prefix(byte, long_mode, prefixes)) {
            prefixes.rex = 0; // a REX counts only directly before the opcode
        } else if (long_mode && (byte & 0xf0) == 0x40) {
            prefixes.rex = byte;
        } else {
            return prefixes;
        }
        bytes.take();
    }
}

std::optional<EnqueueKind> kind_of(const Prefixes& prefixes) {
    if (prefixes.repeat == 0xf2)
        return EnqueueKind::enqcmd;
    if (prefixes.repeat == 0xf3)
        return EnqueueKind::enqcmds;
    if (prefixes.operand_size)
        return EnqueueKind::movdir64b;
    return std::nullopt;
}

/// 16-bit addresses: fixed pairs of registers (SDM volume 2, table 2-1).
void take_short_source(Bytes& bytes, std::uint8_t mod, std::uint8_t rm, EnqueueInstruction& out) {
    struct Pair {
        std::uint8_t base;
        std::uint8_t index;
    };
    static constexpr std::array<Pair, 8> pairs{
        {{3, 6}, {3, 7}, {5, 6}, {5, 7}, {6, none}, {7, none}, {5, none}, {3, none}}};
    if (mod == 0 && rm == 6) {
        out.displacement = bytes.take_signed(2);
        return;
    }
    out.base = pairs[rm].base;
    out.index = pairs[rm].index;
    if (out.base == rbp)
        out.segment = SegmentName::ss;
    if (mod != 0)
        out.displacement = bytes.take_signed(mod);
}

/// 32 and 64-bit addresses (SDM volume 2, tables 2-2 and 2-3, and 2.2.1.3 for the extension bits).
void take_source(Bytes& bytes, std::uint8_t mod, std::uint8_t rm, std::uint8_t rex, bool long_mode,
                 EnqueueInstruction& out) {
    const auto extend = [rex](std::uint8_t number, unsigned bit) {
        return static_cast<std::uint8_t>(number | (rex >> bit & 1U) << 3);
    };
    std::uint8_t base = rm;
    if (rm == 4) {
        const std::uint8_t sib = bytes.take();
        out.shift = sib >> 6;
        if (const std::uint8_t index = extend(sib >> 3 & 7, 1); index != 4)
            out.index = index;
        base = sib & 7;
    }
    if (mod == 0 && base == 5) {
        // No base register. In 64-bit code without a SIB byte, this is relative to the next instruction.
        out.rip_relative = long_mode && rm == 5;
        out.displacement = bytes.take_signed(4);
        return;
    }
    out.base = extend(base, 0);
    if (out.base == rsp || out.base == rbp)
        out.segment = SegmentName::ss;
    if (mod != 0)
        out.displacement = bytes.take_signed(mod == 1 ? 1 : 4);
}

std::uint8_t address_bytes(CodeSize code, bool toggled) {
    if (code == CodeSize::bits64)
        return toggled ? 4 : 8;
    return (code == CodeSize::bits32) != toggled ? 4 : 2;
}

} // namespace

std::optional<EnqueueInstruction> decode_enqueue(std::span<const std::uint8_t> all, CodeSize code) noexcept {
    Bytes bytes{all};
    const bool long_mode = code == CodeSize::bits64;
    const Prefixes prefixes = take_prefixes(bytes, long_mode);
    const auto kind = kind_of(prefixes);
    if (bytes.take() != 0x0f || bytes.take() != 0x38 || bytes.take() != 0xf8 || !kind)
        return std::nullopt;
    const std::uint8_t modrm = bytes.take();
    const std::uint8_t mod = modrm >> 6;
    const std::uint8_t rm = modrm & 7;
    if (mod == 3)
        return std::nullopt;
    EnqueueInstruction out;
    out.kind = *kind;
    out.lock = prefixes.lock;
    out.address_bytes = address_bytes(code, prefixes.address_size);
    out.destination = static_cast<std::uint8_t>((modrm >> 3 & 7) | (prefixes.rex >> 2 & 1U) << 3);
    if (out.address_bytes == 2)
        take_short_source(bytes, mod, rm, out);
    else
        take_source(bytes, mod, rm, prefixes.rex, long_mode, out);
    if (bytes.ran_out())
        return std::nullopt;
    if (prefixes.segment)
        out.segment = *prefixes.segment;
    out.length = bytes.taken();
    return out;
}

} // namespace inox::iommu
