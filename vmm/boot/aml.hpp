// SPDX-License-Identifier: Apache-2.0
// Builds ACPI machine language (ACPI 6.5, chapter 20) by nesting calls: each function returns the bytes of one term.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "vmm/base/address.hpp"
#include "vmm/base/range.hpp"

namespace inox::boot::aml {

using Bytes = std::vector<std::uint8_t>;

Bytes concat(const std::vector<Bytes>& terms);

// Data. A `name` is up to four characters, "\\" and "." as in ASL: "\\_SB", "PCI0", "\\_SB.PCI0".
Bytes integer(std::uint64_t value);
Bytes string(std::string_view text);
Bytes eisa_id(std::string_view id); ///< "PNP0A08"
Bytes buffer(const Bytes& bytes);
Bytes uuid(std::string_view text); ///< "e5c937d0-3553-4d7a-9117-ea4d19c3434d", as ToUUID
Bytes package(const std::vector<Bytes>& elements);
Bytes path(std::string_view name);

// Objects.
Bytes name(std::string_view name, const Bytes& value);
Bytes scope(std::string_view name, const std::vector<Bytes>& terms);
Bytes device(std::string_view name, const std::vector<Bytes>& terms);
/// Serialised, as it may create named objects.
Bytes method(std::string_view name, unsigned arguments, const std::vector<Bytes>& terms);

/// OperationRegion in port space.
Bytes port_region(std::string_view name, Range<IoPort> ports);
/// Field over a region: 32-bit registers one after another from its start, accessed whole.
Bytes dword_registers(std::string_view region, const std::vector<std::string_view>& names);
/// The same of 8-bit registers.
Bytes byte_registers(std::string_view region, const std::vector<std::string_view>& names);

// Inside methods.
Bytes arg(unsigned index);
Bytes local(unsigned index);
Bytes return_value(const Bytes& value);
Bytes if_true(const Bytes& condition, const std::vector<Bytes>& terms);
Bytes equal(const Bytes& left, const Bytes& right);
Bytes not_equal(const Bytes& left, const Bytes& right);
Bytes store(const Bytes& value, const Bytes& target);
Bytes nowhere(); ///< as the target of an operation that is wanted for its value only
Bytes bit_and(const Bytes& left, const Bytes& right, const Bytes& target);
Bytes bit_or(const Bytes& left, const Bytes& right, const Bytes& target);
Bytes notify(std::string_view object, std::uint8_t event);
/// CreateDWordField: `name` is 32 bits of `source` from byte `offset`.
Bytes dword_field(const Bytes& source, unsigned offset, std::string_view name);

// Resources (ACPI 6.5, 6.4). A template ends itself.
Bytes resources(const std::vector<Bytes>& descriptors);
Bytes io_ports(Range<IoPort> ports); ///< fixed, 16-bit decoded
Bytes memory32_fixed(Range<Gpa> range);
enum class IrqMode : std::uint8_t { edge_high, level_low };
Bytes interrupt(std::uint32_t gsi, IrqMode mode);
// Windows a bridge passes on.
Bytes bus_numbers(std::uint8_t first, std::uint8_t last);
Bytes io_window(Range<IoPort> ports);
Bytes memory32_window(Range<Gpa> range);
Bytes memory64_window(Range<Gpa> range);

} // namespace inox::boot::aml
