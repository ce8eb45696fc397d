// SPDX-License-Identifier: Apache-2.0
// Which pages of guest memory were written since a snapshot, or a round of a move, took them. Here the VMM itself notes
// what it writes: every path by which it does goes through GuestMemory or DmaMemory, and both call mark(). What the
// guest writes is KVM's log, which Vm::collect_writes() adds.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/bytes.hpp"
#include "vmm/base/os.hpp"

namespace inox {

struct RamRegion;

/// One bit a page, in the order of the memory's file. Any thread may mark while others take. Who took a page and then
/// reads it sees all that was written before its mark; so a page is marked behind the write, and asynchronous I/O marks
/// when it has ended.
class DirtyPages {
public:
    static Result<DirtyPages> create(std::span<const RamRegion> regions);
    DirtyPages(DirtyPages&& other) noexcept;
    DirtyPages& operator=(DirtyPages&&) = delete;
    ~DirtyPages() = default;

    /// Whether writes are noted at all; not at first. Pages that were given back are noted always: nothing else tells
    /// them from those that were never touched.
    void track(bool on) noexcept { tracked_.store(on, std::memory_order_seq_cst); }
    [[nodiscard]] bool tracked() const noexcept { return tracked_.load(std::memory_order_relaxed); }

    /// These bytes were written; any that are not guest memory are left out. A few nanoseconds a page.
    void mark(const void* start, std::size_t size) noexcept {
        if (tracked())
            note(start, size);
    }
    void mark_given_back(std::span<const std::byte> pages) noexcept { note(pages.data(), pages.size()); }

    [[nodiscard]] std::uint64_t pages() const { return pages_; }
    [[nodiscard]] bool test(std::uint64_t page) const noexcept;
    /// Words of 64 pages.
    [[nodiscard]] std::size_t words() const { return (pages_ + word_pages - 1) / word_pages; }
    [[nodiscard]] std::uint64_t word(std::size_t index) const noexcept;
    void add_word(std::size_t index, std::uint64_t bits) noexcept;
    /// Forgets what it returns.
    [[nodiscard]] std::uint64_t take_word(std::size_t index) noexcept;
    void clear() noexcept;

    static constexpr std::uint64_t word_pages = 64;

private:
    struct Region {
        const std::byte* start;
        std::size_t size;
        std::uint64_t first_page;
    };
    DirtyPages(std::vector<Region> regions, Mapping bits, std::uint64_t pages);
    void note(const void* start, std::size_t size) noexcept;
    [[nodiscard]] std::atomic_ref<std::uint64_t> at(std::size_t index) const noexcept;

    std::vector<Region> regions_;
    Mapping bits_; ///< pages of it that nobody marked take no memory
    std::uint64_t pages_;
    std::atomic<bool> tracked_{false};
};

} // namespace inox
