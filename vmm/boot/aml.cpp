// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/aml.hpp"

#include <algorithm>
#include <cassert>
#include <initializer_list>

namespace inox::boot::aml {
namespace {

enum Op : std::uint8_t {
    zero_op = 0x00,
    one_op = 0x01,
    name_op = 0x08,
    byte_prefix = 0x0a,
    word_prefix = 0x0b,
    dword_prefix = 0x0c,
    string_prefix = 0x0d,
    qword_prefix = 0x0e,
    scope_op = 0x10,
    buffer_op = 0x11,
    package_op = 0x12,
    method_op = 0x14,
    dual_name_prefix = 0x2e,
    multi_name_prefix = 0x2f,
    ext_prefix = 0x5b,
    local0_op = 0x60,
    arg0_op = 0x68,
    store_op = 0x70,
    and_op = 0x7b,
    or_op = 0x7d,
    notify_op = 0x86,
    create_dword_field_op = 0x8a,
    lnot_op = 0x92,
    lequal_op = 0x93,
    if_op = 0xa0,
    return_op = 0xa4,
};
constexpr std::uint8_t ext_region_op = 0x80;
constexpr std::uint8_t ext_field_op = 0x81;
constexpr std::uint8_t ext_device_op = 0x82;

void append(Bytes& to, const Bytes& from) { to.insert(to.end(), from.begin(), from.end()); }

void append_le(Bytes& to, std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i, value >>= 8)
        to.push_back(static_cast<std::uint8_t>(value));
}

/// PkgLength (20.2.4): counts its own bytes.
Bytes package_length(std::size_t content) {
    if (content + 1 <= 0x3f)
        return {static_cast<std::uint8_t>(content + 1)};
    unsigned extra = 1;
    while (content + 1 + extra >= std::size_t{1} << (4 + 8 * extra))
        ++extra;
    const std::size_t length = content + 1 + extra;
    assert(extra <= 3);
    Bytes bytes{static_cast<std::uint8_t>(extra << 6 | (length & 0xf))};
    append_le(bytes, length >> 4, extra);
    return bytes;
}

Bytes with_length(std::initializer_list<std::uint8_t> opcode, const Bytes& content) {
    Bytes bytes{opcode};
    append(bytes, package_length(content.size()));
    append(bytes, content);
    return bytes;
}

Bytes named(std::initializer_list<std::uint8_t> opcode, std::string_view name, const std::vector<Bytes>& terms) {
    Bytes content = path(name);
    append(content, concat(terms));
    return with_length(opcode, content);
}

Bytes operation(Op opcode, std::initializer_list<Bytes> operands) {
    Bytes bytes{opcode};
    for (const Bytes& operand : operands)
        append(bytes, operand);
    return bytes;
}

std::uint8_t hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return static_cast<std::uint8_t>(c - '0');
    const char lower = static_cast<char>(c | 0x20);
    assert(lower >= 'a' && lower <= 'f');
    return static_cast<std::uint8_t>(lower - 'a' + 10);
}

/// Address space descriptors (6.4.3.5) differ only in tag and field width.
Bytes window(std::uint8_t tag, unsigned width, std::uint8_t type, std::uint8_t type_flags, std::uint64_t first,
             std::uint64_t last) {
    constexpr std::uint8_t fixed_producer = 0x0c; // minimum and maximum fixed, positive decode
    Bytes bytes{tag};
    append_le(bytes, 3 + 5 * width, 2);
    append(bytes, {type, fixed_producer, type_flags});
    for (const std::uint64_t field : {std::uint64_t{0}, first, last, std::uint64_t{0}, last - first + 1})
        append_le(bytes, field, width);
    return bytes;
}

enum WindowTag : std::uint8_t { dword_window = 0x87, word_window = 0x88, qword_window = 0x8a };
enum WindowType : std::uint8_t { memory_type = 0, io_type = 1, bus_type = 2 };
constexpr std::uint8_t memory_read_write = 1; // not cacheable, not prefetchable: holds BARs of both kinds
constexpr std::uint8_t io_entire_range = 3;

} // namespace

Bytes concat(const std::vector<Bytes>& terms) {
    Bytes bytes;
    for (const Bytes& term : terms)
        append(bytes, term);
    return bytes;
}

Bytes integer(std::uint64_t value) {
    if (value <= 1)
        return {value == 0 ? zero_op : one_op};
    const auto prefixed = [&](Op prefix, unsigned size) {
        Bytes bytes{prefix};
        append_le(bytes, value, size);
        return bytes;
    };
    if (value <= 0xff)
        return prefixed(byte_prefix, 1);
    if (value <= 0xffff)
        return prefixed(word_prefix, 2);
    if (value <= 0xffffffff)
        return prefixed(dword_prefix, 4);
    return prefixed(qword_prefix, 8);
}

Bytes string(std::string_view text) {
    Bytes bytes(1 + text.size() + 1); // with prefix and final NUL
    bytes.front() = string_prefix;
    std::ranges::copy(text, bytes.begin() + 1);
    return bytes;
}

Bytes eisa_id(std::string_view id) {
    // Three letters of five bits, four hexadecimal digits, most significant byte first (19.6.36).
    assert(id.size() == 7);
    std::uint32_t value = 0;
    for (const char c : id.substr(0, 3))
        value = value << 5 | (static_cast<std::uint32_t>(c) - 0x40);
    for (const char c : id.substr(3))
        value = value << 4 | hex_digit(c);
    return operation(dword_prefix, {{static_cast<std::uint8_t>(value >> 24), static_cast<std::uint8_t>(value >> 16),
                                     static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)}});
}

Bytes buffer(const Bytes& bytes) { return with_length({buffer_op}, concat({integer(bytes.size()), bytes})); }

Bytes uuid(std::string_view text) {
    // Byte order of ToUUID (19.6.142): the first three groups are little-endian.
    constexpr std::uint8_t digit_of_byte[] = {6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34};
    assert(text.size() == 36);
    Bytes bytes;
    for (const std::uint8_t at : digit_of_byte)
        bytes.push_back(static_cast<std::uint8_t>(hex_digit(text[at]) << 4 | hex_digit(text[at + 1U])));
    return buffer(bytes);
}

Bytes package(const std::vector<Bytes>& elements) {
    assert(elements.size() <= 255);
    return with_length({package_op}, concat({{static_cast<std::uint8_t>(elements.size())}, concat(elements)}));
}

Bytes path(std::string_view name) {
    Bytes segments;
    Bytes prefix;
    unsigned count = 0;
    if (name.starts_with('\\')) {
        prefix.push_back('\\');
        name.remove_prefix(1);
    }
    while (!name.empty()) {
        const std::string_view segment = name.substr(0, name.find('.'));
        assert(!segment.empty() && segment.size() <= 4);
        for (std::size_t i = 0; i < 4; ++i)
            segments.push_back(static_cast<std::uint8_t>(i < segment.size() ? segment[i] : '_'));
        name.remove_prefix(std::min(segment.size() + 1, name.size()));
        ++count;
    }
    if (count == 2)
        prefix.push_back(dual_name_prefix);
    else if (count > 2)
        append(prefix, {multi_name_prefix, static_cast<std::uint8_t>(count)});
    return concat({prefix, segments});
}

Bytes name(std::string_view name, const Bytes& value) { return operation(name_op, {path(name), value}); }
Bytes scope(std::string_view name, const std::vector<Bytes>& terms) { return named({scope_op}, name, terms); }
Bytes device(std::string_view name, const std::vector<Bytes>& terms) {
    return named({ext_prefix, ext_device_op}, name, terms);
}
Bytes method(std::string_view name, unsigned arguments, const std::vector<Bytes>& terms) {
    constexpr unsigned serialized = 8;
    return named({method_op}, name, {{static_cast<std::uint8_t>(arguments | serialized)}, concat(terms)});
}

Bytes port_region(std::string_view name, Range<IoPort> ports) {
    constexpr std::uint8_t system_io = 1;
    return concat(
        {{ext_prefix, ext_region_op}, path(name), {system_io}, integer(ports.start().raw()), integer(ports.size())});
}
namespace {

/// `access` is the access type of 19.6.48: 1 for bytes, 3 for double words. No lock, other bits of a register write as
/// zero.
Bytes registers(std::string_view region, const std::vector<std::string_view>& names, std::uint8_t access,
                std::uint8_t bits) {
    constexpr std::uint8_t zero_rest = 0x40;
    Bytes content = concat({path(region), {static_cast<std::uint8_t>(access | zero_rest)}});
    for (const auto name : names) {
        append(content, path(name));
        append(content, {bits}); // encoded as a package length that does not count itself
    }
    return with_length({ext_prefix, ext_field_op}, content);
}

} // namespace

Bytes dword_registers(std::string_view region, const std::vector<std::string_view>& names) {
    return registers(region, names, 3, 32);
}
Bytes byte_registers(std::string_view region, const std::vector<std::string_view>& names) {
    return registers(region, names, 1, 8);
}

Bytes arg(unsigned index) { return {static_cast<std::uint8_t>(arg0_op + index)}; }
Bytes local(unsigned index) { return {static_cast<std::uint8_t>(local0_op + index)}; }
Bytes return_value(const Bytes& value) { return operation(return_op, {value}); }
Bytes if_true(const Bytes& condition, const std::vector<Bytes>& terms) {
    return with_length({if_op}, concat({condition, concat(terms)}));
}
Bytes equal(const Bytes& left, const Bytes& right) { return operation(lequal_op, {left, right}); }
Bytes not_equal(const Bytes& left, const Bytes& right) { return operation(lnot_op, {equal(left, right)}); }
Bytes store(const Bytes& value, const Bytes& target) { return operation(store_op, {value, target}); }
Bytes nowhere() { return {zero_op}; }
Bytes bit_and(const Bytes& left, const Bytes& right, const Bytes& target) {
    return operation(and_op, {left, right, target});
}
Bytes bit_or(const Bytes& left, const Bytes& right, const Bytes& target) {
    return operation(or_op, {left, right, target});
}
Bytes notify(std::string_view object, std::uint8_t event) {
    return operation(notify_op, {path(object), integer(event)});
}
Bytes dword_field(const Bytes& source, unsigned offset, std::string_view name) {
    return operation(create_dword_field_op, {source, integer(offset), path(name)});
}

Bytes resources(const std::vector<Bytes>& descriptors) {
    // The end tag's checksum 0 means: not checked.
    return buffer(concat({concat(descriptors), {0x79, 0x00}}));
}

Bytes io_ports(Range<IoPort> ports) {
    constexpr std::uint8_t decode16 = 1;
    Bytes bytes{0x47, decode16};
    append_le(bytes, ports.start().raw(), 2);
    append_le(bytes, ports.start().raw(), 2);
    append(bytes, {1, static_cast<std::uint8_t>(ports.size())});
    return bytes;
}

Bytes memory32_fixed(Range<Gpa> range) {
    Bytes bytes{0x86, 9, 0, memory_read_write};
    append_le(bytes, range.start().raw(), 4);
    append_le(bytes, range.size(), 4);
    return bytes;
}

Bytes interrupt(std::uint32_t gsi, IrqMode mode) {
    // Consumer, exclusive; bit 1 edge, bit 2 active low, bit 3 shared (6.4.3.6).
    const std::uint8_t flags = mode == IrqMode::edge_high ? 0x03 : 0x0d;
    Bytes bytes{0x89, 6, 0, flags, 1};
    append_le(bytes, gsi, 4);
    return bytes;
}

Bytes bus_numbers(std::uint8_t first, std::uint8_t last) { return window(word_window, 2, bus_type, 0, first, last); }
Bytes io_window(Range<IoPort> ports) {
    return window(word_window, 2, io_type, io_entire_range, ports.start().raw(), ports.last().raw());
}
Bytes memory32_window(Range<Gpa> range) {
    return window(dword_window, 4, memory_type, memory_read_write, range.start().raw(), range.last().raw());
}
Bytes memory64_window(Range<Gpa> range) {
    return window(qword_window, 8, memory_type, memory_read_write, range.start().raw(), range.last().raw());
}

} // namespace inox::boot::aml
