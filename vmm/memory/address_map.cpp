// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/address_map.hpp"

#include <algorithm>
#include <cpuid.h>

#include "vmm/base/bytes.hpp"

namespace inox {
namespace {

/// First address behind RAM.
std::uint64_t end_of_ram(std::uint64_t memory, Gpa hole) {
    return memory <= hole.raw() ? memory : layout::ram_above_hole.raw() + memory - hole.raw();
}

/// A window too large for the hole ends below it, where RAM would be: the hole's fixed devices keep their addresses.
Range<Gpa> place_32(std::uint64_t size) {
    const bool fits = size <= layout::pci_bars_32.size();
    return *Range<Gpa>::sized(fits ? layout::pci_bars_32.start() : Gpa{layout::hole.start().raw() - size}, size);
}

std::unexpected<Error> no_room(std::uint64_t size, unsigned bits, std::uint64_t room) {
    return fail(Errc::no_resource,
                format("a 64-bit window of %llu MiB for BARs does not fit: of the CPU's %u address bits, RAM leaves "
                       "%llu MiB",
                       static_cast<unsigned long long>(size / MiB), bits, static_cast<unsigned long long>(room / MiB)),
                "ask for a smaller window, or give the guest less memory");
}

} // namespace

Result<AddressMap> plan_addresses(std::uint64_t memory, unsigned address_bits, const PciWindows& wanted) {
    constexpr std::uint64_t alignment = GiB;
    AddressMap map;
    if (wanted.bars_32) {
        map.bars_32 = place_32(*wanted.bars_32);
        map.hole = std::min(map.hole, map.bars_32.start());
    }
    const std::uint64_t end = std::uint64_t{1} << std::clamp(address_bits, 32U, 52U);
    const auto ram_end = end_of_ram(memory, map.hole);
    if (ram_end > end)
        return fail(Errc::memory_invalid,
                    format("memory of %llu MiB ends beyond the %u address bits of this CPU",
                           static_cast<unsigned long long>(memory / MiB), address_bits),
                    "give the guest less memory");
    const auto above_ram = align_up(std::max(ram_end, layout::ram_above_hole.raw()), alignment);
    const auto room = above_ram < end ? end - above_ram : 0;
    const auto usual = std::max(std::min(layout::pci_bars_64.start().raw(), end / 4), above_ram);
    if (const auto size = wanted.bars_64) {
        if (*size > room)
            return no_room(*size, address_bits, room);
        const auto start = usual < end && *size <= end - usual ? usual : above_ram;
        map.bars_64 = Range<Gpa>::sized(Gpa{start}, *size);
    } else if (usual < end) {
        map.bars_64 = Range<Gpa>::sized(Gpa{usual}, end - usual);
    } else {
        map.bars_64.reset();
    }
    return map;
}

unsigned usable_address_bits(std::uint32_t eax) {
    constexpr unsigned without_leaf = 36;
    constexpr unsigned four_levels = 48;
    const unsigned bits = eax & 0xff;
    const unsigned guest = eax >> 16 & 0xff; // of the host's tables for guests, where KVM reports it
    if (bits == 0)
        return without_leaf;
    return std::min(bits, guest != 0 ? guest : four_levels);
}

std::uint32_t host_address_leaf() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid(address_leaf, &eax, &ebx, &ecx, &edx) != 0 ? eax : 0;
}

unsigned host_address_bits() { return usable_address_bits(host_address_leaf()); }

} // namespace inox
