// SPDX-License-Identifier: Apache-2.0
// The table by which ENQCMD's guest PASIDs become host PASIDs, in the shape that VMX PASID translation has (SDM 3C,
// "PASID translation"), so that a kernel which learns to use it can be given the pages as they are.
//
//   guest PASID   19          18 ... 10              9 ... 0
//                  |              |                     |
//       directory: low, high   entry 0..511   table: entry 0..1023
//
//   directory entry, 8 bytes   0 present | 11:1 zero | 51:12 address of the table | 63:52 zero
//   table entry, 4 bytes       19:0 host PASID | 30:20 zero | 31 valid
//
// The pages are one file in memory: both directories, then the place of each table. An address is an offset into it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "iommu/ids.hpp"
#include "vmm/base/os.hpp"

namespace inox::iommu {

/// The format; only arithmetic, so that tests can derive from it.
namespace pasid_format {
inline constexpr unsigned pasid_bits = 20;
inline constexpr unsigned table_bits = 10;
inline constexpr unsigned directory_bits = 9;
inline constexpr std::uint32_t directories = 1U << (pasid_bits - directory_bits - table_bits);
inline constexpr std::uint32_t tables = 1U << (pasid_bits - table_bits);
inline constexpr std::uint32_t pasids = 1U << pasid_bits;
inline constexpr std::size_t page_bytes = 4096;
inline constexpr std::size_t file_bytes = (directories + tables) * page_bytes;

inline constexpr std::uint64_t directory_present = 1;
inline constexpr std::uint64_t directory_address = 0x000f'ffff'ffff'f000;
inline constexpr std::uint64_t directory_reserved = ~(directory_present | directory_address);
inline constexpr std::uint32_t entry_valid = 1U << 31;
inline constexpr std::uint32_t entry_pasid = pasids - 1;
inline constexpr std::uint32_t entry_reserved = ~(entry_valid | entry_pasid);

static_assert(directories == 2 && (1U << directory_bits) * sizeof(std::uint64_t) == page_bytes);
static_assert((1U << table_bits) * sizeof(std::uint32_t) == page_bytes);
static_assert(entry_reserved == 0x7ff00000 && directory_reserved == 0xfff0'0000'0000'0ffe);
} // namespace pasid_format

/// Why there is no translation.
struct PasidMiss {
    enum class Level : std::uint8_t { directory, table };
    enum class Cause : std::uint8_t {
        not_present,
        reserved,     ///< a reserved bit is set, or a directory leads nowhere
        out_of_range, ///< more than 20 bits
    };
    Level level{};
    Cause cause{};
    bool operator==(const PasidMiss&) const = default;
};
using PasidLookup = std::expected<HostPasid, PasidMiss>;

/// The hardware's algorithm over `pages`, which another thread may be changing: each entry is loaded once.
[[nodiscard]] inline PasidLookup translate_pasid(std::span<const std::byte> pages, GuestPasid guest) noexcept {
    using namespace pasid_format;
    const auto miss = [](PasidMiss::Level level, PasidMiss::Cause cause) {
        return std::unexpected{PasidMiss{level, cause}};
    };
    if (guest.raw() >= pasids)
        return miss(PasidMiss::Level::directory, PasidMiss::Cause::out_of_range);
    // Directories lie one behind the other, so bits 19:10 index both at once.
    const auto* directory = reinterpret_cast<const std::uint64_t*>(pages.data()); // NOLINT: page aligned
    // Acquire: what the table held when its address was published is seen.
    const std::uint64_t table = __atomic_load_n(directory + (guest.raw() >> table_bits), __ATOMIC_ACQUIRE);
    if ((table & directory_present) == 0)
        return miss(PasidMiss::Level::directory, PasidMiss::Cause::not_present);
    const std::uint64_t place = table & directory_address;
    if ((table & directory_reserved) != 0 || place > pages.size() - page_bytes) [[unlikely]]
        return miss(PasidMiss::Level::directory, PasidMiss::Cause::reserved);
    const auto* entries = reinterpret_cast<const std::uint32_t*>(pages.data() + place); // NOLINT
    const std::uint32_t entry = __atomic_load_n(entries + guest.raw() % (1U << table_bits), __ATOMIC_ACQUIRE);
    if ((entry & entry_valid) == 0)
        return miss(PasidMiss::Level::table, PasidMiss::Cause::not_present);
    if ((entry & entry_reserved) != 0) [[unlikely]]
        return miss(PasidMiss::Level::table, PasidMiss::Cause::reserved);
    return HostPasid{entry & entry_pasid};
}

/// The table of one guest. translate() takes no lock and may run on any thread beside changes; each sees an entry as it
/// was before or after a change. Changes are serialised.
class PasidTable {
public:
    static Result<std::unique_ptr<PasidTable>> create();

    [[nodiscard]] PasidLookup translate(GuestPasid guest) const noexcept { return translate_pasid(pages_, guest); }

    /// Adds or replaces an entry: the table's first, then the directory's. False when either number has more than 20
    /// bits.
    bool set(GuestPasid guest, HostPasid host);
    /// Removes an entry, and the directory's with the last of a table. A submission that runs now may still use the old
    /// translation: drain those before the host PASID is given up, then trim(). False when there was none.
    bool clear(GuestPasid guest);
    /// Returns the memory of tables that are empty. No submission may run that began before they became so.
    void trim();

    // For tests: the entries, and how many there are.
    [[nodiscard]] std::vector<std::pair<GuestPasid, HostPasid>> pairs() const;
    [[nodiscard]] std::uint32_t size() const;
    /// Bytes the pages take now.
    [[nodiscard]] std::uint64_t resident() const;
    /// For a kernel that takes them, and for tests that damage them.
    [[nodiscard]] std::span<std::byte> pages() const { return pages_; }
    [[nodiscard]] int fd() const { return file_.get(); }

private:
    PasidTable(UniqueFd file, inox::Mapping mapping);

    UniqueFd file_;
    inox::Mapping mapping_;
    std::span<std::byte> pages_;
    mutable std::mutex mutex_;
    std::vector<std::uint16_t> used_;  ///< entries of each table; guarded by mutex_
    std::vector<std::uint32_t> empty_; ///< tables that were emptied and may be trimmed; guarded by mutex_
    std::uint32_t size_{};             ///< guarded by mutex_
};

/// Has the CPU translate by this table. The only code that changes when a kernel can: today none takes the pages, so
/// this returns `unsupported` and every submission goes through translate().
Result<void> hand_to_kernel(const PasidTable& table);
/// Why not, for people.
inline constexpr const char* no_kernel_translation =
    "no Linux kernel lets a VMM give the CPU a PASID translation table; ENQCMD traps, and inox translates";

} // namespace inox::iommu
