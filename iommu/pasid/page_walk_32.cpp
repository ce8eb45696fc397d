// SPDX-License-Identifier: Apache-2.0
// The walks outside long mode: 32-bit paging (SDM 3A, 4.3) and PAE paging (4.4). Both have two levels of tables; PAE
// has four pointers above them.
#include <array>

#include "iommu/pasid/page_entry.hpp"
#include "iommu/pasid/page_walk.hpp"

namespace inox::iommu {
namespace {

using namespace page_entry;

constexpr std::uint32_t reserved_code = PageFault::present | PageFault::reserved_bit;

/// The entry of a table at a physical address; null outside RAM.
template <class Entry> Entry* entry_at(const GuestMemory& memory, std::uint64_t table, std::size_t index) {
    const auto bytes = memory.host(Gpa{table + index * sizeof(Entry)}, sizeof(Entry));
    return bytes ? reinterpret_cast<Entry*>(bytes->data()) : nullptr; // NOLINT: naturally aligned
}

template <class Entry> struct Read {
    Entry* entry{};
    Entry value{};
};

/// Marks an access that is permitted: accessed bits, and for a write the page's dirty bit. False when an entry changed.
template <class Entry> bool mark(const GuestMemory& memory, std::span<const Read<Entry>> path, bool write) {
    for (const auto& step : path) {
        const bool last = &step == &path.back();
        if (!set_bits(memory, step.entry, step.value, bit_accessed | (last && write ? bit_dirty : 0)))
            return false;
    }
    return true;
}

constexpr std::uint64_t ones(unsigned from, unsigned to) { return from >= to ? 0 : (1ULL << to) - (1ULL << from); }

/// Bits 62:MAXPHYADDR are reserved in PAE's entries, although long mode uses some of them.
std::uint64_t reserved_in_pae(const Paging& paging, bool large) {
    return ones(paging.physical_bits, 63) | (paging.execute_disable ? 0 : bit_no_execute) | (large ? ones(13, 21) : 0);
}

} // namespace

std::optional<WalkResult> PageWalker::attempt_32(std::uint32_t linear, PageAccess access) noexcept {
    constexpr unsigned large_bits = 22;
    std::array<Read<std::uint32_t>, 2> path{};
    Rights rights;
    std::uint64_t table = paging_.root & 0xfffff000;
    for (unsigned level = 2;; --level) {
        const unsigned bits = level == 2 ? large_bits : 12;
        const std::size_t at = 2 - level;
        auto* const entry = entry_at<std::uint32_t>(memory_, table, linear >> bits & 0x3ff);
        if (!entry)
            return fault(PageFault::Cause::outside_ram, access, 0);
        const std::uint32_t value = load(entry);
        path[at] = {entry, value};
        if ((value & bit_present) == 0)
            return fault(PageFault::Cause::not_present, access, 0);
        const bool large = level == 2 && paging_.four_mib_pages && (value & bit_large) != 0;
        // PSE-36: bits 20:13 are address bits 39:32, as far as the CPU has them.
        const unsigned address_top = paging_.physical_bits < 40U ? paging_.physical_bits : 40U;
        if (large && (value & ones(13 + (address_top < 32 ? 0 : address_top - 32), large_bits)) != 0)
            return fault(PageFault::Cause::reserved, access, reserved_code);
        rights.write = rights.write && (value & bit_write) != 0;
        rights.user = rights.user && (value & bit_user) != 0;
        table = value & 0xfffff000;
        if (level != 1 && !large)
            continue;
        std::uint32_t code = access_code(access, paging_) | PageFault::present;
        if (!allowed(access, rights, 0, code))
            return WalkResult{std::unexpected{PageFault{PageFault::Cause::protection, code}}};
        if (!mark(memory_, std::span<const Read<std::uint32_t>>{path}.first(at + 1), access.write))
            return std::nullopt;
        const std::uint64_t page = large ? (value & 0xffc00000U) | std::uint64_t{value >> 13 & 0xffU} << 32
                                         : std::uint64_t{value & 0xfffff000U};
        return PageMapping{Gpa{page | (linear & ((1U << bits) - 1))}, static_cast<std::uint8_t>(bits), rights.write,
                           rights.user, access.write || (value & bit_dirty) != 0};
    }
}

std::optional<WalkResult> PageWalker::attempt_pae(std::uint32_t linear, PageAccess access) noexcept {
    auto* const pointer = entry_at<std::uint64_t>(memory_, paging_.root & 0xffffffe0, linear >> 30);
    if (!pointer)
        return fault(PageFault::Cause::outside_ram, access, 0);
    const std::uint64_t first = load(pointer);
    if ((first & bit_present) == 0)
        return fault(PageFault::Cause::not_present, access, 0);
    // A CPU refuses to load such pointers. They have no rights and no accessed bit.
    if ((first & (ones(1, 3) | ones(5, 9) | ones(paging_.physical_bits, 63) | bit_no_execute)) != 0)
        return fault(PageFault::Cause::reserved, access, reserved_code);
    std::array<Read<std::uint64_t>, 2> path{};
    Rights rights;
    std::uint64_t table = first & address_bits;
    for (unsigned level = 2;; --level) {
        const unsigned bits = level == 2 ? 21 : 12;
        const std::size_t at = 2 - level;
        auto* const entry = entry_at<std::uint64_t>(memory_, table, linear >> bits & 0x1ff);
        if (!entry)
            return fault(PageFault::Cause::outside_ram, access, 0);
        const std::uint64_t value = load(entry);
        path[at] = {entry, value};
        if ((value & bit_present) == 0)
            return fault(PageFault::Cause::not_present, access, 0);
        const bool large = level == 2 && (value & bit_large) != 0;
        if ((value & reserved_in_pae(paging_, large)) != 0)
            return fault(PageFault::Cause::reserved, access, reserved_code);
        rights.write = rights.write && (value & bit_write) != 0;
        rights.user = rights.user && (value & bit_user) != 0;
        rights.no_execute = rights.no_execute || (value & bit_no_execute) != 0;
        table = value & address_bits;
        if (level != 1 && !large)
            continue;
        std::uint32_t code = access_code(access, paging_) | PageFault::present;
        if (!allowed(access, rights, 0, code))
            return WalkResult{std::unexpected{PageFault{PageFault::Cause::protection, code}}};
        if (!mark(memory_, std::span<const Read<std::uint64_t>>{path}.first(at + 1), access.write))
            return std::nullopt;
        const std::uint64_t inside = (1ULL << bits) - 1;
        return PageMapping{Gpa{(value & address_bits & ~inside) | (linear & inside)}, static_cast<std::uint8_t>(bits),
                           rights.write, rights.user, access.write || (value & bit_dirty) != 0};
    }
}

} // namespace inox::iommu
