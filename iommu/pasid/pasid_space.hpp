// SPDX-License-Identifier: Apache-2.0
// Guest memory as (endpoint, PASID) reaches it: through a page table that the guest bound, with a cache of translations
// that the guest must invalidate, as it must an IOMMU's.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <vector>

#include "iommu/ids.hpp"
#include "iommu/pasid/page_walk.hpp"
#include "vmm/base/range.hpp"
#include "vmm/memory/dma_memory.hpp"

namespace inox::iommu {

/// What a guest binds to (endpoint, PASID): a first-level page table in x86-64's format, at guest-physical addresses.
struct PageTable {
    std::uint64_t root{}; ///< page aligned
    bool five_levels{};
    bool privileged{};          ///< requests with the PRIV bit are served, with supervisor rights
    bool write_protect{};       ///< they obey read-only pages
    bool execute_disable{true}; ///< bit 63 of an entry is not reserved
    bool operator==(const PageTable&) const = default;
};

/// An access as (endpoint, PASID) that was refused.
struct PasidFault {
    EndpointId endpoint{};
    GuestPasid guest{};
    HostPasid host{};
    Access access{Access::read};
    Iova address{}; ///< the first byte at fault
    bool privileged{};
    PageFault::Cause cause{PageFault::Cause::not_present}; ///< outside_ram also when the page itself is not RAM
    bool operator==(const PasidFault&) const = default;
};
/// Called on the thread of the access, while its memory is held: it may neither wait nor call back.
using PasidFaultSink = std::function<void(const PasidFault&)>;

/// One binding. Made by PasidSpaces. Who has a view may keep it after the unbinding: it then reaches nothing, and says
/// nothing (R24).
class PasidSpace {
public:
    struct Name {
        EndpointId endpoint;
        GuestPasid guest;
        HostPasid host;
    };
    /// `memory` must outlive it.
    PasidSpace(const GuestMemory& memory, Name name, const PageTable& table, PasidFaultSink sink);
    ~PasidSpace();
    PasidSpace(const PasidSpace&) = delete;
    PasidSpace& operator=(const PasidSpace&) = delete;

    [[nodiscard]] const Name& name() const { return name_; }
    [[nodiscard]] const PageTable& table() const { return table_; }
    /// As requests without, or with, the PRIV bit.
    [[nodiscard]] const DmaMemory& view(bool privileged) const { return privileged ? supervisor_ : user_; }

    /// From now on every access is refused. Does not wait.
    void revoke() noexcept { live_.store(false, std::memory_order_seq_cst); }
    /// Waits until nobody uses a translation found before. Not with a hold.
    void drain() noexcept;
    /// The same, and forgets what is cached for the range (all without one).
    void invalidate(std::optional<Range<Iova>> range) noexcept;

    struct Counts {
        std::uint64_t hits{};
        std::uint64_t walks{};
        std::uint64_t faults{};
    };
    [[nodiscard]] Counts counts() const noexcept;

private:
    class View final : public DmaMemory {
    public:
        View(const PasidSpace& space, bool privileged)
            : DmaMemory{&space.memory_.dirty()}, space_{space}, privileged_{privileged} {}
        Hold hold() const override { return space_.hold(); }
        [[nodiscard]] std::uint64_t generation() const noexcept override {
            return space_.generation_.load(std::memory_order_acquire);
        }

    private:
        [[nodiscard]] Translated do_translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                              TranslationLimit& limit) const noexcept override {
            return space_.translate(range, access, privileged_, out, limit);
        }
        const PasidSpace& space_;
        bool privileged_;
    };
    /// A 4 KiB translation in two words that any thread may write: a pair torn by two writers does not match.
    struct Line {
        std::atomic<std::uint64_t> key{0}; ///< page number ^ value
        std::atomic<std::uint64_t> value{0};
    };
    static constexpr std::size_t line_count = 256;
    using Lines = std::array<Line, line_count>;
    /// One call of translate().
    struct Request {
        Access access;
        bool privileged;
        bool cacheable; ///< a few pages; longer ones would push all others out
        PageWalker walker;
        TranslationLimit& limit;
        const RamRegion* ram{}; ///< where the last piece was
        std::uint64_t hits{};
        std::uint64_t walks{};
        bool full{false}; ///< the limit is reached
    };

    [[nodiscard]] DmaMemory::Hold hold() const;
    [[nodiscard]] Translated translate(Range<Iova> range, Access access, bool privileged, std::vector<iovec>& out,
                                       TranslationLimit& limit) const noexcept;
    /// Appends what lies at `at`, at most `most` bytes; returns how many, 0 on a fault or at the limit.
    std::uint64_t append(std::uint64_t at, std::uint64_t most, Request& request,
                         std::vector<iovec>& out) const noexcept;
    static std::uint64_t full(Request& request) noexcept;
    [[nodiscard]] std::expected<PageRun, PageFault> find(std::uint64_t at, std::uint64_t most, PageAccess wanted,
                                                         Request& request) const noexcept;
    /// Null when some of it is no RAM.
    [[nodiscard]] std::byte* host(const PageRun& run, Request& request) const noexcept;
    [[nodiscard]] std::optional<Gpa> cached(std::uint64_t at, PageAccess access) const noexcept;
    void remember(std::uint64_t at, const PageMapping& mapping) const noexcept;
    void report(std::uint64_t at, Access access, bool privileged, PageFault::Cause cause) const noexcept;

    const GuestMemory& memory_;
    const Name name_;
    const PageTable table_;
    const Paging paging_;
    const PasidFaultSink sink_;
    const View user_{*this, false};
    const View supervisor_{*this, true};
    std::atomic<bool> live_{true};
    std::atomic<std::uint64_t> generation_{0};
    mutable std::mutex turnstile_;           ///< who waits for the holders goes before new ones; taken first
    mutable std::shared_mutex holds_;        ///< shared: hold(); alone: nobody uses a translation
    mutable std::atomic<Lines*> lines_{};    ///< made by the first access that is cached; most of a binding's memory
    mutable std::atomic<bool> large_{false}; ///< a line is a part of a large page
    mutable std::atomic<std::uint64_t> hits_{0};
    mutable std::atomic<std::uint64_t> walks_{0};
    mutable std::atomic<std::uint64_t> faults_{0};
};
static_assert(sizeof(PasidSpace) <= 512); // docs/guest-abi.md says what a binding costs

} // namespace inox::iommu
