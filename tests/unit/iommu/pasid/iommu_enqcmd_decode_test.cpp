// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/enqcmd_decode.hpp"

#include <chrono>
#include <string>
#include <vector>

#include "tests/catch.hpp"

namespace inox::iommu_enqcmd_decode_test {

using namespace iommu;

namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr auto none = EnqueueInstruction::none;
constexpr auto bits16 = CodeSize::bits16;
constexpr auto bits32 = CodeSize::bits32;
constexpr auto bits64 = CodeSize::bits64;
constexpr auto enqcmd = EnqueueKind::enqcmd;
constexpr auto enqcmds = EnqueueKind::enqcmds;
constexpr auto movdir64b = EnqueueKind::movdir64b;
enum : std::uint8_t { ax, cx, dx, bx, sp, bp, si, di, r8, r9, r10, r11, r12, r13, r14, r15 };

Bytes concat(Bytes first, const Bytes& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

struct Row {
    const char* text; ///< GNU as makes the bytes of this text
    CodeSize code;
    Bytes bytes;
    EnqueueInstruction expected;
};

EnqueueInstruction make(EnqueueKind kind, std::uint8_t length, std::uint8_t width, std::uint8_t destination,
                        std::uint8_t base, std::uint8_t index = none, std::uint8_t shift = 0,
                        std::int32_t displacement = 0, SegmentName segment = SegmentName::ds, bool relative = false) {
    EnqueueInstruction out;
    out.kind = kind;
    out.length = length;
    out.address_bytes = width;
    out.destination = destination;
    out.base = base;
    out.index = index;
    out.shift = shift;
    out.displacement = displacement;
    out.segment = segment;
    out.rip_relative = relative;
    return out;
}

const std::vector<Row>& rows() {
    using enum SegmentName;
    static const std::vector<Row> all{
        {"enqcmd (%rsi),%rax", bits64, {0xf2, 0x0f, 0x38, 0xf8, 0x06}, make(enqcmd, 5, 8, ax, si)},
        {"enqcmds (%rdi),%rcx", bits64, {0xf3, 0x0f, 0x38, 0xf8, 0x0f}, make(enqcmds, 5, 8, cx, di)},
        {"movdir64b (%rax),%rdi", bits64, {0x66, 0x0f, 0x38, 0xf8, 0x38}, make(movdir64b, 5, 8, di, ax)},
        {"enqcmd (%esi),%eax", bits64, {0x67, 0xf2, 0x0f, 0x38, 0xf8, 0x06}, make(enqcmd, 6, 4, ax, si)},
        {"enqcmd (%r9),%r15", bits64, {0xf2, 0x45, 0x0f, 0x38, 0xf8, 0x39}, make(enqcmd, 6, 8, r15, r9)},
        {"enqcmd 0x10(%rsp),%r8",
         bits64,
         {0xf2, 0x44, 0x0f, 0x38, 0xf8, 0x44, 0x24, 0x10},
         make(enqcmd, 8, 8, r8, sp, none, 0, 0x10, ss)},
        {"enqcmd -1(%rbp),%rax",
         bits64,
         {0xf2, 0x0f, 0x38, 0xf8, 0x45, 0xff},
         make(enqcmd, 6, 8, ax, bp, none, 0, -1, ss)},
        {"enqcmd -1(%r13),%rax",
         bits64,
         {0xf2, 0x41, 0x0f, 0x38, 0xf8, 0x45, 0xff},
         make(enqcmd, 7, 8, ax, r13, none, 0, -1)},
        {"enqcmd (%r12),%rax", bits64, {0xf2, 0x41, 0x0f, 0x38, 0xf8, 0x04, 0x24}, make(enqcmd, 7, 8, ax, r12)},
        {"enqcmd (%rax,%r12,8),%rdx",
         bits64,
         {0xf2, 0x42, 0x0f, 0x38, 0xf8, 0x14, 0xe0},
         make(enqcmd, 7, 8, dx, ax, r12, 3)},
        {"enqcmd 0x11223344(,%rcx,4),%rbx",
         bits64,
         {0xf2, 0x0f, 0x38, 0xf8, 0x1c, 0x8d, 0x44, 0x33, 0x22, 0x11},
         make(enqcmd, 10, 8, bx, none, cx, 2, 0x11223344)},
        {"enqcmd 0x11223344,%rbx (SIB without base and index)",
         bits64,
         {0xf2, 0x0f, 0x38, 0xf8, 0x1c, 0x25, 0x44, 0x33, 0x22, 0x11},
         make(enqcmd, 10, 8, bx, none, none, 0, 0x11223344)},
        {"enqcmds 0x12345678(%rip),%rax",
         bits64,
         {0xf3, 0x0f, 0x38, 0xf8, 0x05, 0x78, 0x56, 0x34, 0x12},
         make(enqcmds, 9, 8, ax, none, none, 0, 0x12345678, ds, true)},
        {"enqcmds 0x12345678(%eip),%eax",
         bits64,
         {0x67, 0xf3, 0x0f, 0x38, 0xf8, 0x05, 0x78, 0x56, 0x34, 0x12},
         make(enqcmds, 10, 4, ax, none, none, 0, 0x12345678, ds, true)},
        {"movdir64b %fs:(%rax),%rax",
         bits64,
         {0x64, 0x66, 0x0f, 0x38, 0xf8, 0x00},
         make(movdir64b, 6, 8, ax, ax, none, 0, 0, fs)},
        {"movdir64b %gs:(%rax),%rax",
         bits64,
         {0x66, 0x65, 0x0f, 0x38, 0xf8, 0x00},
         make(movdir64b, 6, 8, ax, ax, none, 0, 0, gs)},
        {"enqcmd %cs:(%rsp),%rax: means nothing in 64-bit code",
         bits64,
         {0x2e, 0xf2, 0x0f, 0x38, 0xf8, 0x04, 0x24},
         make(enqcmd, 7, 8, ax, sp, none, 0, 0, ss)},
        {"enqcmd (%esi),%eax", bits32, {0xf2, 0x0f, 0x38, 0xf8, 0x06}, make(enqcmd, 5, 4, ax, si)},
        {"enqcmd 0x11223344,%eax",
         bits32,
         {0xf2, 0x0f, 0x38, 0xf8, 0x05, 0x44, 0x33, 0x22, 0x11},
         make(enqcmd, 9, 4, ax, none, none, 0, 0x11223344)},
        {"enqcmd %cs:(%esp),%eax",
         bits32,
         {0x2e, 0xf2, 0x0f, 0x38, 0xf8, 0x04, 0x24},
         make(enqcmd, 7, 4, ax, sp, none, 0, 0, cs)},
        {"enqcmd (%bp,%di),%ax",
         bits32,
         {0x67, 0xf2, 0x0f, 0x38, 0xf8, 0x03},
         make(enqcmd, 6, 2, ax, bp, di, 0, 0, ss)},
        {"enqcmd 0x1234,%ax",
         bits16,
         {0xf2, 0x0f, 0x38, 0xf8, 0x06, 0x34, 0x12},
         make(enqcmd, 7, 2, ax, none, none, 0, 0x1234)},
        {"enqcmd -2(%bp),%cx",
         bits16,
         {0xf2, 0x0f, 0x38, 0xf8, 0x4e, 0xfe},
         make(enqcmd, 6, 2, cx, bp, none, 0, -2, ss)},
        {"enqcmd -256(%bx),%cx",
         bits16,
         {0xf2, 0x0f, 0x38, 0xf8, 0x8f, 0x00, 0xff},
         make(enqcmd, 7, 2, cx, bx, none, 0, -256)},
        {"movdir64b (%eax),%ecx", bits16, {0x67, 0x66, 0x0f, 0x38, 0xf8, 0x08}, make(movdir64b, 6, 4, cx, ax)},
    };
    return all;
}

/// The length by the encoding's tables, independent of the decoder: prefixes, opcode, ModRM, SIB, displacement.
std::size_t length_by_rule(std::size_t prefixes, unsigned width, std::uint8_t modrm, std::uint8_t sib) {
    const unsigned mod = modrm >> 6, rm = modrm & 7U;
    std::size_t length = prefixes + 4;
    if (width == 2)
        return length + (mod == 0 ? (rm == 6 ? 2 : 0) : mod);
    const bool has_sib = rm == 4;
    const bool no_base = mod == 0 && (has_sib ? (sib & 7) == 5 : rm == 5);
    return length + (has_sib ? 1 : 0) + (no_base || mod == 2 ? 4 : mod == 1 ? 1 : 0);
}

} // namespace

TEST_CASE("what an assembler makes is taken apart again") {
    for (const Row& row : rows()) {
        INFO(row.text);
        const auto found = decode_enqueue(row.bytes, row.code);
        REQUIRE(found);
        CHECK(*found == row.expected);
        CHECK(decode_enqueue(concat(row.bytes, {0xcc, 0x66, 0xf0}), row.code) == found);
    }
}

TEST_CASE("an instruction that does not end within the bytes is refused, wherever it is cut") {
    for (const Row& row : rows())
        for (std::size_t size = 0; size < row.bytes.size(); ++size)
            CHECK_FALSE(decode_enqueue(std::span{row.bytes}.first(size), row.code));
}

TEST_CASE("every ModRM, SIB, REX and address size has the length and the registers its bits say") {
    unsigned wrong = 0;
    for (const auto code : {bits16, bits32, bits64})
        for (const bool toggled : {false, true})
            for (unsigned rex = 0; rex < (code == bits64 ? 17U : 1U); ++rex)
                for (unsigned modrm = 0; modrm < 0x100; ++modrm)
                    for (unsigned sib = 0; sib < 0x100; ++sib) {
                        Bytes bytes;
                        if (toggled)
                            bytes.push_back(0x67);
                        bytes.push_back(0xf2);
                        if (rex != 0)
                            bytes.push_back(static_cast<std::uint8_t>(0x3f + rex));
                        const std::size_t prefixes = bytes.size();
                        for (const unsigned byte : {0x0fU, 0x38U, 0xf8U, modrm, sib, 0U, 0U, 0U, 0U})
                            bytes.push_back(static_cast<std::uint8_t>(byte));
                        const auto found = decode_enqueue(bytes, code);
                        if (modrm >= 0xc0) {
                            wrong += found.has_value();
                            continue;
                        }
                        const unsigned width = code == bits64 ? (toggled ? 4 : 8) : (code == bits32) != toggled ? 4 : 2;
                        const unsigned bits = rex == 0 ? 0 : rex - 1;
                        const bool good =
                            found && found->address_bytes == width &&
                            found->length == length_by_rule(prefixes, width, static_cast<std::uint8_t>(modrm),
                                                            static_cast<std::uint8_t>(sib)) &&
                            found->destination == ((modrm >> 3 & 7) | (bits & 4) << 1);
                        wrong += !good;
                        if (found && width != 2 && (modrm & 7) == 4) {
                            const unsigned index = (sib >> 3 & 7) | (bits & 2) << 2;
                            wrong += found->index != (index == 4 ? none : index) || found->shift != sib >> 6;
                        }
                    }
    CHECK(wrong == 0);
}

TEST_CASE("only the mandatory prefixes select, the last repeat prefix counts, and it outranks the operand size") {
    const Bytes opcode{0x0f, 0x38, 0xf8, 0x06};
    const auto kind = [&](const Bytes& prefixes) -> std::optional<EnqueueKind> {
        const auto found = decode_enqueue(concat(prefixes, opcode), bits64);
        return found ? std::optional{found->kind} : std::nullopt;
    };
    CHECK_FALSE(kind({}));
    CHECK_FALSE(kind({0x67}));
    CHECK_FALSE(kind({0x48}));
    CHECK(kind({0xf2, 0xf3}) == enqcmds);
    CHECK(kind({0xf3, 0xf2}) == enqcmd);
    CHECK(kind({0x66, 0xf2}) == enqcmd);
    CHECK(kind({0xf3, 0x66}) == enqcmds);
    CHECK(kind({0x66, 0x66}) == movdir64b);
}

TEST_CASE("a REX prefix counts only right before the opcode, and only in 64-bit code") {
    const auto late = decode_enqueue(Bytes{0x4d, 0xf2, 0x0f, 0x38, 0xf8, 0x06}, bits64);
    REQUIRE(late);
    CHECK(late->base == si);
    CHECK(late->destination == ax);
    CHECK_FALSE(decode_enqueue(Bytes{0xf2, 0x45, 0x0f, 0x38, 0xf8, 0x06}, bits32)); // INC EBP
}

TEST_CASE("a segment override of old does not undo FS in 64-bit code, and does elsewhere") {
    const Bytes bytes{0x64, 0x3e, 0xf2, 0x0f, 0x38, 0xf8, 0x06};
    CHECK(decode_enqueue(bytes, bits64)->segment == SegmentName::fs);
    CHECK(decode_enqueue(bytes, bits32)->segment == SegmentName::ds);
}

TEST_CASE("a LOCK prefix is reported, for it is an invalid opcode") {
    const auto found = decode_enqueue(Bytes{0xf0, 0xf2, 0x0f, 0x38, 0xf8, 0x06}, bits64);
    REQUIRE(found);
    CHECK(found->lock);
    CHECK(found->length == 6);
}

TEST_CASE("fifteen bytes are an instruction, sixteen are not") {
    Bytes bytes(7, 0x66);
    const Bytes tail{0xf2, 0x0f, 0x38, 0xf8, 0x05, 1, 2, 3, 4};
    CHECK_FALSE(decode_enqueue(concat(bytes, tail), bits64));
    bytes.pop_back();
    const auto found = decode_enqueue(concat(bytes, tail), bits64);
    REQUIRE(found);
    CHECK(found->length == longest_instruction);
}

TEST_CASE("neighbouring opcodes are refused") {
    for (unsigned third = 0; third < 0x100; ++third)
        if (third != 0xf8)
            CHECK_FALSE(
                decode_enqueue(Bytes{0xf2, 0x0f, 0x38, static_cast<std::uint8_t>(third), 0x06, 0, 0, 0, 0}, bits64));
    CHECK_FALSE(decode_enqueue(Bytes{0xf2, 0x0f, 0x3a, 0xf8, 0x06}, bits64));
    CHECK_FALSE(decode_enqueue(Bytes{0xf2, 0xf8, 0x38, 0xf8, 0x06}, bits64));
}

} // namespace inox::iommu_enqcmd_decode_test
