// SPDX-License-Identifier: Apache-2.0
// Which guest RAM is taken before the first instruction, and the memory map the guest is told.
#pragma once

#include <string>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::boot {

/// A line of the memory map, as in e820 and PVH (types of ACPI 6.5 table 15.6).
struct MapEntry {
    enum class Type : std::uint32_t { ram = 1, reserved = 2 };
    Range<Gpa> range;
    Type type;
};
/// In ascending order.
std::vector<MapEntry> memory_map(const GuestMemory& memory);

/// Refuses what is outside RAM or overlaps something placed before. The boot structures are placed from the start.
class Placement {
public:
    explicit Placement(const GuestMemory& memory);

    /// `what` names the claimant in the error and in errors of later claims; `code` is the error's.
    Result<Range<Gpa>> claim(Gpa start, std::uint64_t size, const std::string& what, Errc code);
    /// The highest free page-aligned place that ends at or below `last` and lies in RAM below the 32-bit hole.
    Result<Range<Gpa>> claim_high(Gpa last, std::uint64_t size, const std::string& what, Errc code);

private:
    std::vector<Range<Gpa>> ram_;
    RangeMap<Gpa, std::string> taken_;
};

} // namespace inox::boot
