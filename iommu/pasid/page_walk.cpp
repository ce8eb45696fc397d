// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/page_walk.hpp"

#include <algorithm>

#include "iommu/pasid/page_entry.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::iommu {
namespace {

using namespace page_entry;

constexpr unsigned index_bits = 9;
constexpr unsigned max_levels = 5;
/// A guest that rewrites an entry in all these attempts gets a fault, after which it can try again.
constexpr unsigned max_attempts = 32;

constexpr unsigned page_bits(unsigned level) { return 12 + index_bits * (level - 1); }
constexpr std::size_t index_of(std::uint64_t linear, unsigned level) {
    return linear >> page_bits(level) & ((1U << index_bits) - 1);
}
/// In a canonical address, all bits above the highest translated one repeat it.
constexpr bool canonical(std::uint64_t linear, bool five_levels) {
    const unsigned unused = five_levels ? 64 - 57 : 64 - 48;
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(linear << unused) >> unused) == linear;
}

} // namespace

WalkResult PageWalker::fault(PageFault::Cause cause, PageAccess access, std::uint32_t bits) const noexcept {
    return std::unexpected{PageFault{cause, access_code(access, paging_) | bits}};
}

std::uint64_t PageWalker::reserved_bits(unsigned level, bool large) const noexcept {
    std::uint64_t bits = paging_.physical_bits < 52 ? address_bits & ~((1ULL << paging_.physical_bits) - 1) : 0;
    if (!paging_.execute_disable)
        bits |= bit_no_execute;
    if (level >= 4 || (level == 3 && !paging_.one_gib_pages))
        bits |= bit_large;
    if (large && level > 1)
        bits |= ((1ULL << page_bits(level)) - 1) & ~((1ULL << 13) - 1); // bit 12 is PAT
    return bits;
}

bool PageWalker::allowed(PageAccess access, Rights rights, std::uint64_t leaf, std::uint32_t& code) const noexcept {
    if (access.user && !rights.user)
        return false;
    if (access.fetch)
        return !rights.no_execute && !(paging_.smep && !access.user && rights.user);
    if (paging_.smap && !access.user && rights.user)
        return false;
    const bool write_obeys = access.user || paging_.write_protect;
    if (access.write && !rights.write && write_obeys)
        return false;
    if (paging_.pkru && rights.user) {
        const auto disable = *paging_.pkru >> (2 * (leaf >> 59 & 0xf));
        if ((disable & 1) != 0 || (access.write && (disable & 2) != 0 && write_obeys)) {
            code |= PageFault::key;
            return false;
        }
    }
    return true;
}

std::optional<WalkResult> PageWalker::finish(std::span<const Step> path, unsigned level, Rights rights,
                                             std::uint64_t linear, PageAccess access) noexcept {
    const std::uint64_t leaf = path.back().value;
    std::uint32_t code = access_code(access, paging_) | PageFault::present;
    if (!allowed(access, rights, leaf, code))
        return std::unexpected{PageFault{PageFault::Cause::protection, code}};
    for (const Step& step : path) {
        const bool last = &step == &path.back();
        if (!set_bits(memory_, step.entry, step.value, bit_accessed | (last && access.write ? bit_dirty : 0)))
            return std::nullopt;
    }
    const std::uint64_t inside = (1ULL << page_bits(level)) - 1;
    return PageMapping{Gpa{(leaf & address_bits & ~inside) | (linear & inside)},
                       static_cast<std::uint8_t>(page_bits(level)), rights.write, rights.user,
                       access.write || (leaf & bit_dirty) != 0};
}

std::optional<WalkResult> PageWalker::attempt(std::uint64_t linear, PageAccess access) noexcept {
    const bool shortcut = table_ && linear >> page_bits(2) == region_;
    std::array<Step, max_levels> path;
    std::size_t steps = 0;
    Rights rights = shortcut ? rights_ : Rights{};
    std::uint64_t next = paging_.root & address_bits;
    for (unsigned level = shortcut ? 1 : paging_.five_levels ? 5 : 4;; --level) {
        auto* table = table_;
        if (!shortcut) {
            const auto bytes = memory_.host(Gpa{next}, page_size);
            if (!bytes)
                return fault(PageFault::Cause::outside_ram, access, 0);
            table = reinterpret_cast<std::uint64_t*>(bytes->data()); // NOLINT: page aligned, so are guest and host
            if (level == 1) {
                table_ = table;
                region_ = linear >> page_bits(2);
                rights_ = rights;
                settled_ = {};
            }
        }
        auto* const entry = table + index_of(linear, level);
        const std::uint64_t value = load(entry);
        path[steps++] = {entry, value};
        if ((value & bit_present) == 0)
            return fault(PageFault::Cause::not_present, access, 0);
        const bool large = level > 1 && (value & bit_large) != 0;
        if ((value & reserved_bits(level, large)) != 0)
            return fault(PageFault::Cause::reserved, access, PageFault::present | PageFault::reserved_bit);
        rights.write = rights.write && (value & bit_write) != 0;
        rights.user = rights.user && (value & bit_user) != 0;
        rights.no_execute = rights.no_execute || (value & bit_no_execute) != 0;
        if (level == 1 || large)
            return finish({path.data(), steps}, level, rights, linear, access);
        next = value & address_bits;
    }
}

WalkResult PageWalker::walk(std::uint64_t linear, PageAccess access) noexcept {
    const bool short_addresses = paging_.mode != PagingMode::long_mode;
    if (short_addresses ? linear > 0xffffffff : !canonical(linear, paging_.five_levels))
        return std::unexpected{PageFault{PageFault::Cause::non_canonical, 0}};
    for (unsigned i = 0; i < max_attempts; ++i) {
        const auto low = static_cast<std::uint32_t>(linear);
        auto result = paging_.mode == PagingMode::bits32 ? attempt_32(low, access)
                      : short_addresses                  ? attempt_pae(low, access)
                                                         : attempt(linear, access);
        if (!result || !*result)
            table_ = nullptr; // the levels above must be checked again
        if (result)
            return *result;
    }
    return fault(PageFault::Cause::unstable, access, 0);
}

void PageWalker::settle(PageAccess access) noexcept {
    settled_ = {.access = access};
    const bool write_obeys = access.write && (access.user || paging_.write_protect);
    if (access.fetch || paging_.smap || paging_.pkru || (access.user && !rights_.user) ||
        (write_obeys && !rights_.write))
        return; // forbidden, or subject to rules that one mask cannot express
    settled_.value = bit_present | bit_accessed | (access.user ? bit_user : 0) | (write_obeys ? bit_write : 0) |
                     (access.write ? bit_dirty : 0);
    settled_.mask = settled_.value | reserved_bits(1, false);
}

std::expected<PageRun, PageFault> PageWalker::run(std::uint64_t linear, std::uint64_t most,
                                                  PageAccess access) noexcept {
    const bool in_table = table_ && linear >> page_bits(2) == region_;
    if (in_table && settled_.access != access)
        settle(access);
    const std::size_t index = index_of(linear, 1);
    const std::uint64_t inside = linear % page_size;
    std::uint64_t first = in_table ? load(table_ + index) : 0;
    if (!in_table || (first & settled_.mask) != settled_.value) {
        const auto mapping = walk(linear, access);
        if (!mapping)
            return std::unexpected{mapping.error()};
        const std::uint64_t size = 1ULL << mapping->page_bits;
        if (mapping->page_bits != page_bits(1) || !table_)
            return PageRun{mapping->address, std::min(most, size - linear % size)};
        first = mapping->address.raw() - inside;
        settle(access);
    }
    first &= address_bits;
    const std::uint64_t in_range = (most - 1 + inside) / page_size + 1;
    const std::uint64_t limit = std::min<std::uint64_t>(in_range, (1U << index_bits) - index);
    const std::uint64_t mask = settled_.mask | address_bits;
    std::uint64_t pages = 1;
    for (std::uint64_t next = (first + page_size) | settled_.value;
         pages < limit && (load(table_ + index + pages) & mask) == next; next += page_size)
        ++pages;
    return PageRun{Gpa{first + inside}, std::min(most, pages * page_size - inside)};
}

} // namespace inox::iommu
