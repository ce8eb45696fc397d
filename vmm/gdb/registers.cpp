// SPDX-License-Identifier: Apache-2.0
#include "vmm/gdb/registers.hpp"

#include <cstring>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/gdb/packet.hpp"

namespace inox::gdb {
namespace {

/// All registers as the packet g has them: the order of this struct is that of `names` below.
struct [[gnu::packed]] Layout {
    std::uint64_t general[16];
    std::uint64_t rip;
    std::uint32_t eflags;
    std::uint32_t segments[6];
    std::uint64_t control[9];
    std::uint8_t st[8][10];
    std::uint32_t fpu_control[8];
    std::uint8_t xmm[16][16];
    std::uint32_t mxcsr;
    std::uint8_t ymm_high[16][16];
};

struct Group {
    const char* feature; ///< null: of the group before
    const char* names;   ///< separated by blanks
    const char* type;
    std::size_t size; ///< bytes
};

constexpr Group groups[] = {
    {"core", "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15", "int64", 8},
    {nullptr, "rip", "code_ptr", 8},
    {nullptr, "eflags", "i386_eflags", 4},
    {nullptr, "cs ss ds es fs gs", "int32", 4},
    {nullptr, "fs_base gs_base k_gs_base cr0 cr2 cr3 cr4 cr8 efer", "int64", 8},
    {nullptr, "st0 st1 st2 st3 st4 st5 st6 st7", "i387_ext", 10},
    {nullptr, "fctrl fstat ftag fiseg fioff foseg fooff fop", "int32", 4},
    {"sse", "xmm0 xmm1 xmm2 xmm3 xmm4 xmm5 xmm6 xmm7 xmm8 xmm9 xmm10 xmm11 xmm12 xmm13 xmm14 xmm15", "vec128", 16},
    {nullptr, "mxcsr", "int32", 4},
    {"avx", "ymm0h ymm1h ymm2h ymm3h ymm4h ymm5h ymm6h ymm7h ymm8h ymm9h ymm10h ymm11h ymm12h ymm13h ymm14h ymm15h",
     "uint128", 16},
};

constexpr const char* types_of_core = R"(
<flags id="i386_eflags" size="4"><field name="CF" start="0" end="0"/><field name="PF" start="2" end="2"/>
<field name="AF" start="4" end="4"/><field name="ZF" start="6" end="6"/><field name="SF" start="7" end="7"/>
<field name="TF" start="8" end="8"/><field name="IF" start="9" end="9"/><field name="DF" start="10" end="10"/>
<field name="OF" start="11" end="11"/><field name="NT" start="14" end="14"/><field name="RF" start="16" end="16"/>
<field name="VM" start="17" end="17"/><field name="AC" start="18" end="18"/></flags>)";

constexpr const char* types_of_sse = R"(
<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>
<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>
<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>
<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>)";

/// Calls `each` with the name of every register of a group.
template <class F> void split(const Group& group, F each) {
    std::string_view rest = group.names;
    while (!rest.empty()) {
        const auto end = std::min(rest.find(' '), rest.size());
        each(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
}

struct Place {
    std::size_t offset;
    std::size_t size;
};

const std::vector<Place>& places() {
    static const auto all = [] {
        std::vector<Place> out;
        std::size_t at = 0;
        for (const auto& group : groups)
            split(group, [&](std::string_view) {
                out.push_back({at, group.size});
                at += group.size;
            });
        return out;
    }();
    return all;
}

/// In the order of "cs ss ds es fs gs".
template <class Special> auto segments_of(Special& special) {
    return std::array{&special.cs, &special.ss, &special.ds, &special.es, &special.fs, &special.gs};
}

/// KVM has a bit for each register that is not empty; GDB wants two bits each, 3 for an empty one.
std::uint32_t whole_tag(std::uint8_t in_use) {
    std::uint32_t tag = 0;
    for (unsigned i = 0; i < 8; ++i)
        if ((in_use >> i & 1) == 0)
            tag |= 3U << (2 * i);
    return tag;
}

std::uint8_t short_tag(std::uint32_t tag) {
    std::uint8_t in_use = 0;
    for (unsigned i = 0; i < 8; ++i)
        if ((tag >> (2 * i) & 3) != 3)
            in_use = static_cast<std::uint8_t>(in_use | 1U << i);
    return in_use;
}

Layout layout_of(const Registers& registers) {
    const auto& g = registers.general;
    const auto& s = registers.special;
    const auto& f = registers.fpu;
    Layout out{
        .general = {g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.rbp, g.rsp, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13,
                    g.r14, g.r15},
        .rip = g.rip,
        .eflags = static_cast<std::uint32_t>(g.rflags),
        .segments = {},
        .control = {s.fs.base, s.gs.base, registers.kernel_gs_base, s.cr0, s.cr2, s.cr3, s.cr4, s.cr8, s.efer},
        .st = {},
        .fpu_control = {f.fcw, f.fsw, whole_tag(f.ftwx), 0, static_cast<std::uint32_t>(f.last_ip), 0,
                        static_cast<std::uint32_t>(f.last_dp), f.last_opcode},
        .xmm = {},
        .mxcsr = f.mxcsr,
        .ymm_high = {},
    };
    const auto segments = segments_of(s);
    for (std::size_t i = 0; i < segments.size(); ++i)
        out.segments[i] = segments[i]->selector;
    for (std::size_t i = 0; i < 8; ++i)
        std::memcpy(out.st[i], f.fpr[i], sizeof out.st[i]);
    std::memcpy(out.xmm, f.xmm, sizeof out.xmm);
    std::memcpy(out.ymm_high, registers.ymm_high.data(), sizeof out.ymm_high);
    return out;
}

/// A segment's selector is not taken: its hidden part could not follow.
void apply(const Layout& in, Registers& registers) {
    auto& g = registers.general;
    decltype(&g.rax) const general[] = {&g.rax, &g.rbx, &g.rcx, &g.rdx, &g.rsi, &g.rdi, &g.rbp, &g.rsp,
                                        &g.r8,  &g.r9,  &g.r10, &g.r11, &g.r12, &g.r13, &g.r14, &g.r15};
    for (std::size_t i = 0; i < std::size(general); ++i)
        *general[i] = in.general[i];
    g.rip = in.rip;
    g.rflags = (g.rflags & ~std::uint64_t{UINT32_MAX}) | in.eflags;
    auto& s = registers.special;
    s.fs.base = in.control[0];
    s.gs.base = in.control[1];
    s.cr0 = in.control[3];
    s.cr2 = in.control[4];
    s.cr3 = in.control[5];
    s.cr4 = in.control[6];
    s.cr8 = in.control[7];
    s.efer = in.control[8];
    auto& f = registers.fpu;
    for (std::size_t i = 0; i < 8; ++i)
        std::memcpy(f.fpr[i], in.st[i], sizeof in.st[i]);
    f.fcw = static_cast<std::uint16_t>(in.fpu_control[0]);
    f.fsw = static_cast<std::uint16_t>(in.fpu_control[1]);
    f.ftwx = short_tag(in.fpu_control[2]);
    f.last_opcode = static_cast<std::uint16_t>(in.fpu_control[7]);
    std::memcpy(f.xmm, in.xmm, sizeof in.xmm);
    f.mxcsr = in.mxcsr;
    std::memcpy(registers.ymm_high.data(), in.ymm_high, sizeof in.ymm_high);
}

} // namespace

const std::string& target_description() {
    static const std::string text = [] {
        std::string out = "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
                          "<architecture>i386:x86-64</architecture>";
        bool open = false;
        for (const auto& group : groups) {
            if (group.feature) {
                const std::string_view feature = group.feature;
                out += open ? "</feature>" : "";
                out += format("<feature name=\"org.gnu.gdb.i386.%s\">", group.feature);
                out += feature == "core" ? types_of_core : feature == "sse" ? types_of_sse : "";
                open = true;
            }
            split(group, [&](std::string_view name) {
                out += format("<reg name=\"%.*s\" bitsize=\"%zu\" type=\"%s\"/>", static_cast<int>(name.size()),
                              name.data(), group.size * 8, group.type);
            });
        }
        return out + "</feature></target>";
    }();
    return text;
}

std::string encode(const Registers& registers) {
    const auto layout = layout_of(registers);
    return to_hex(std::as_bytes(std::span{&layout, 1}));
}

std::optional<std::string> encode(const Registers& registers, std::uint64_t number) {
    if (number >= places().size())
        return std::nullopt;
    const auto layout = layout_of(registers);
    const auto [offset, size] = places()[number];
    return to_hex(std::as_bytes(std::span{&layout, 1}).subspan(offset, size));
}

bool decode(std::span<const std::byte> bytes, Registers& registers) {
    Layout layout;
    if (bytes.size() != sizeof layout)
        return false;
    std::memcpy(&layout, bytes.data(), sizeof layout);
    apply(layout, registers);
    return true;
}

bool decode(std::uint64_t number, std::span<const std::byte> bytes, Registers& registers) {
    if (number >= places().size() || bytes.size() != places()[number].size)
        return false;
    auto layout = layout_of(registers);
    std::memcpy(std::as_writable_bytes(std::span{&layout, 1}).data() + places()[number].offset, bytes.data(),
                bytes.size());
    apply(layout, registers);
    return true;
}

} // namespace inox::gdb
