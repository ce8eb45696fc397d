// SPDX-License-Identifier: Apache-2.0
// Private to the page walk: bits of an entry that all modes share, and how entries are read and changed.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>

#include "iommu/pasid/page_walk.hpp"

namespace inox::iommu::page_entry {

// SDM 3A, tables 4-5 to 4-20.
inline constexpr std::uint64_t bit_present = 1;
inline constexpr std::uint64_t bit_write = 1U << 1;
inline constexpr std::uint64_t bit_user = 1U << 2;
inline constexpr std::uint64_t bit_accessed = 1U << 5;
inline constexpr std::uint64_t bit_dirty = 1U << 6;
inline constexpr std::uint64_t bit_large = 1U << 7;
inline constexpr std::uint64_t bit_no_execute = 1ULL << 63;
inline constexpr std::uint64_t address_bits = 0x000f'ffff'ffff'f000;

template <std::unsigned_integral Entry> [[nodiscard]] Entry load(Entry* entry) {
    return std::atomic_ref{*entry}.load(std::memory_order_acquire);
}

/// Sets bits in an entry that was read as `value`. False when it is another by now.
template <std::unsigned_integral Entry>
[[nodiscard]] bool set_bits(const GuestMemory& memory, Entry* entry, Entry value, std::uint64_t bits) {
    const auto wanted = static_cast<Entry>(value | bits);
    if (wanted == value)
        return true;
    const bool set = std::atomic_ref{*entry}.compare_exchange_strong(value, wanted);
    memory.dirty().mark(entry, sizeof *entry);
    return set;
}

[[nodiscard]] inline std::uint32_t access_code(PageAccess access, const Paging& paging) {
    return (access.write ? PageFault::write : 0U) | (access.user ? PageFault::user : 0U) |
           (access.fetch && (paging.execute_disable || paging.smep) ? PageFault::fetch : 0U);
}

} // namespace inox::iommu::page_entry
