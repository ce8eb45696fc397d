// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/placement.hpp"

#include <algorithm>
#include <cassert>

#include "vmm/base/hex.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot {
namespace {

constexpr const char* more_memory = "give the guest more memory (--memory)";

std::string text(Range<Gpa> range) { return format("0x%llx..0x%llx", hex(range.start()), hex(range.last())); }

/// What to do so that `range` is RAM.
std::string enough_memory(Range<Gpa> range) {
    if (range.start() < layout::high_ram || range.last() >= layout::hole.start())
        return "link the kernel above 1 MiB and below 3 GiB";
    return format("give the guest at least %lluM of memory (--memory)",
                  static_cast<unsigned long long>(range.last().raw() / MiB + 1));
}

} // namespace

std::vector<MapEntry> memory_map(const GuestMemory& memory) {
    using enum MapEntry::Type;
    const Gpa low_last = memory.low_last();
    const Gpa last_below_high{layout::high_ram.raw() - 1};
    std::vector<MapEntry> map{
        {layout::low_ram, ram},
        {*Range<Gpa>::closed(layout::low_ram.last() + 1, last_below_high), reserved},
        {*Range<Gpa>::closed(layout::high_ram, low_last), ram},
        {layout::ecam, reserved},
    };
    for (const RamRegion& region : memory.regions().subspan(1))
        map.push_back({region.range, ram});
    return map;
}

Placement::Placement(const GuestMemory& memory) {
    for (const MapEntry& entry : memory_map(memory))
        if (entry.type == MapEntry::Type::ram)
            ram_.push_back(entry.range);
    const auto reserve = [this](Gpa start, std::uint64_t size, const char* what) {
        [[maybe_unused]] const bool inserted = taken_.insert(*Range<Gpa>::sized(start, size), what);
        assert(inserted);
    };
    reserve(layout::gdt, page_size - layout::gdt.raw(), "the boot GDT");
    reserve(layout::boot_params, page_size, "the boot parameters");
    reserve(layout::boot_page_tables, layout::boot_page_tables_size, "the boot page tables");
    reserve(layout::cmdline, layout::cmdline_capacity, "the command line");
}

Result<Range<Gpa>> Placement::claim(Gpa start, std::uint64_t size, const std::string& what, Errc code) {
    const auto range = Range<Gpa>::sized(start, size);
    if (!range)
        return fail(code, format("%s: 0x%llx bytes at 0x%llx are not a range", what.c_str(), hex(size), hex(start)),
                    "the file is damaged: fetch or build it again");
    if (std::ranges::none_of(ram_, [&](Range<Gpa> ram) { return ram.contains(*range); }))
        return fail(code, what + " needs " + text(*range) + ", which is not all guest RAM", enough_memory(*range));
    if (const auto* other = taken_.overlap(*range))
        return fail(code, what + " at " + text(*range) + " overlaps " + other->value + " at " + text(other->range),
                    "link the kernel at 1 MiB or above, with segments apart from each other");
    [[maybe_unused]] const bool inserted = taken_.insert(*range, what);
    assert(inserted);
    return *range;
}

Result<Range<Gpa>> Placement::claim_high(Gpa last, std::uint64_t size, const std::string& what, Errc code) {
    const Range<Gpa> low = ram_.at(1); // high_ram up to the hole
    // An exclusive end is safe here: low RAM ends below 4 GiB.
    std::uint64_t end = align_down(std::min(last, low.last()).raw() + 1, page_size);
    while (end > low.start().raw() && size <= end - low.start().raw()) {
        const auto range = Range<Gpa>::sized(Gpa{align_down(end - size, page_size)}, size);
        if (!range)
            break;
        const auto* other = taken_.overlap(*range);
        if (!other)
            return claim(range->start(), size, what, code);
        end = align_down(other->range.start().raw(), page_size);
    }
    return fail(code,
                format("%s: no room for its %llu KiB in guest RAM beside the kernel", what.c_str(),
                       static_cast<unsigned long long>((size + KiB - 1) / KiB)),
                more_memory);
}

} // namespace inox::boot
