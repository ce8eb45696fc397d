// SPDX-License-Identifier: Apache-2.0
// The page walk of x86 CPUs (SDM 3A, 4.3 to 4.7), in software: for an instruction's operand by the CPU's rules, for DMA
// as (endpoint, PASID) by those of an IOMMU's first level, which are those of long mode. Tables and pages are
// guest-physical. The guest may change its tables at any moment: each entry is read once per attempt, and accessed and
// dirty bits are set by compare-and-exchange only on the value that was judged.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "vmm/base/address.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::iommu {

/// SDM 3A, 4.1.1.
enum class PagingMode : std::uint8_t {
    long_mode, ///< 4 or 5 levels, 64-bit addresses; also in compatibility mode
    pae,       ///< 3 levels, 32-bit addresses; the first level is read from memory at each walk
    bits32,    ///< 2 levels, entries and addresses of 32 bits
};

/// How addresses are translated.
struct Paging {
    std::uint64_t root{};              ///< CR3 or its like; bits 51:12 count, with PAE 31:5
    bool five_levels{};                ///< CR4.LA57
    bool write_protect{true};          ///< CR0.WP: supervisor writes obey read-only pages
    bool execute_disable{true};        ///< EFER.NXE: bit 63 forbids fetches; reserved otherwise
    bool smep{};                       ///< CR4.SMEP
    bool smap{};                       ///< CR4.SMAP; clear it for accesses that EFLAGS.AC allows
    bool one_gib_pages{true};          ///< CPUID.80000001H:EDX[26]
    std::uint8_t physical_bits{52};    ///< MAXPHYADDR; address bits above are reserved
    std::optional<std::uint32_t> pkru; ///< set when CR4.PKE is: protection keys of user pages
    PagingMode mode{PagingMode::long_mode};
    bool four_mib_pages{}; ///< CR4.PSE; bits32 only, with PSE-36
    bool operator==(const Paging&) const = default;
};

struct PageAccess {
    bool write{};
    bool user{}; ///< CPL 3, or a DMA request without privilege
    bool fetch{};
    bool operator==(const PageAccess&) const = default;
};

/// Why an access is refused.
struct PageFault {
    enum class Cause : std::uint8_t {
        not_present,
        protection,
        reserved,      ///< a reserved bit is set
        outside_ram,   ///< a table lies outside RAM; the code is that of a page that is not present
        unstable,      ///< entries changed at each of many attempts; the code is that of a page that is not present
        non_canonical, ///< #GP or #SS on a CPU; no error code
    };
    /// Bits of the page-fault error code.
    enum Code : std::uint32_t { present = 1, write = 2, user = 4, reserved_bit = 8, fetch = 0x10, key = 0x20 };
    Cause cause{Cause::not_present};
    std::uint32_t code{};
    bool operator==(const PageFault&) const = default;
};

/// Where an address leads. The address may lie outside RAM.
struct PageMapping {
    Gpa address;
    std::uint8_t page_bits{}; ///< 12, 21 or 30; 22 for bits32's large pages
    bool writable{};          ///< in every level
    bool user{};              ///< in every level
    bool dirty{};             ///< the page's D bit is set, perhaps by this walk
    bool operator==(const PageMapping&) const = default;
};

using WalkResult = std::expected<PageMapping, PageFault>;

/// Where neighbouring addresses lead that lie together. It may lie outside RAM.
struct PageRun {
    Gpa address;
    std::uint64_t size{}; ///< bytes
    bool operator==(const PageRun&) const = default;
};

/// Walks for one operation: remembers the table of the last 4 KiB page, so neighbours cost one load each. What it
/// remembers is as a TLB's: make a new walker after an invalidation. Only in long mode does it remember. One thread.
class PageWalker {
public:
    PageWalker(const GuestMemory& memory, const Paging& paging) : memory_{memory}, paging_{paging} {}

    /// Sets accessed bits on the path, and the dirty bit for a write, when the access is allowed; changes nothing when
    /// it is not.
    [[nodiscard]] WalkResult walk(std::uint64_t linear, PageAccess access) noexcept;
    /// walk(), and on over the pages behind it, as far as one load of an entry shows that they lie behind it and need
    /// no bits set: at most `most` bytes, which is not 0. A page that ends the run is judged by the next call.
    [[nodiscard]] std::expected<PageRun, PageFault> run(std::uint64_t linear, std::uint64_t most,
                                                        PageAccess access) noexcept;

private:
    struct Step {
        std::uint64_t* entry;
        std::uint64_t value;
    };
    struct Rights {
        bool write{true};
        bool user{true};
        bool no_execute{};
    };
    [[nodiscard]] std::optional<WalkResult> attempt(std::uint64_t linear, PageAccess access) noexcept;
    [[nodiscard]] std::optional<WalkResult> attempt_32(std::uint32_t linear, PageAccess access) noexcept;
    [[nodiscard]] std::optional<WalkResult> attempt_pae(std::uint32_t linear, PageAccess access) noexcept;
    [[nodiscard]] WalkResult fault(PageFault::Cause cause, PageAccess access, std::uint32_t bits) const noexcept;
    [[nodiscard]] std::optional<WalkResult> finish(std::span<const Step> path, unsigned level, Rights rights,
                                                   std::uint64_t linear, PageAccess access) noexcept;
    [[nodiscard]] std::uint64_t reserved_bits(unsigned level, bool large) const noexcept;
    [[nodiscard]] bool allowed(PageAccess access, Rights rights, std::uint64_t leaf,
                               std::uint32_t& code) const noexcept;
    /// What an entry of `table_` must be to serve an access as it is: `(entry & mask) == value`.
    struct Settled {
        std::uint64_t mask{};
        std::uint64_t value{1}; ///< as it stands: nothing is
        PageAccess access{};
    };
    void settle(PageAccess access) noexcept;

    const GuestMemory& memory_;
    Paging paging_;
    std::uint64_t* table_{}; ///< of 4 KiB pages, for 2 MiB of addresses
    std::uint64_t region_{}; ///< linear address / 2 MiB that `table_` maps
    Rights rights_{};        ///< of the levels above `table_`
    Settled settled_{};
};

/// One walk.
[[nodiscard]] inline WalkResult walk_pages(const GuestMemory& memory, const Paging& paging, std::uint64_t linear,
                                           PageAccess access) noexcept {
    return PageWalker{memory, paging}.walk(linear, access);
}

} // namespace inox::iommu
