// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/dirty_pages.hpp"

#include <algorithm>
#include <sys/mman.h>
#include <utility>

#include "vmm/memory/guest_memory.hpp"

namespace inox {

Result<DirtyPages> DirtyPages::create(std::span<const RamRegion> regions) {
    std::vector<Region> known;
    std::uint64_t pages = 0;
    for (const auto& region : regions) {
        known.push_back({region.host.data(), region.host.size(), region.file_offset / page_size});
        pages = std::max(pages, (region.file_offset + region.host.size()) / page_size);
    }
    const auto words = (pages + word_pages - 1) / word_pages;
    auto bits = TRY(Mapping::create(align_up(words * sizeof(std::uint64_t), page_size), PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    return DirtyPages{std::move(known), std::move(bits), pages};
}

DirtyPages::DirtyPages(std::vector<Region> regions, Mapping bits, std::uint64_t pages)
    : regions_{std::move(regions)}, bits_{std::move(bits)}, pages_{pages} {}

DirtyPages::DirtyPages(DirtyPages&& other) noexcept
    : regions_{std::move(other.regions_)}, bits_{std::move(other.bits_)}, pages_{other.pages_}, tracked_{
                                                                                                    other.tracked()} {}

std::atomic_ref<std::uint64_t> DirtyPages::at(std::size_t index) const noexcept {
    return std::atomic_ref{reinterpret_cast<std::uint64_t*>(bits_.bytes().data())[index]}; // NOLINT: a page is aligned
}

/// A locked instruction each time, also where the bit is set already: it orders the writes before it against a thread
/// that takes the bit and then reads the page.
void DirtyPages::note(const void* start, std::size_t size) noexcept {
    const auto* const first = static_cast<const std::byte*>(start);
    for (const auto& region : regions_) {
        if (first < region.start || first >= region.start + region.size || size == 0)
            continue;
        const auto offset = static_cast<std::size_t>(first - region.start);
        const auto last = region.first_page + (offset + std::min(size, region.size - offset) - 1) / page_size;
        for (auto page = region.first_page + offset / page_size; page <= last;) {
            const auto bit = page % word_pages;
            const auto count = std::min(word_pages - bit, last - page + 1);
            const auto ones = count == word_pages ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
            at(page / word_pages).fetch_or(ones << bit, std::memory_order_seq_cst);
            page += count;
        }
        return;
    }
}

bool DirtyPages::test(std::uint64_t page) const noexcept {
    return page < pages_ && (word(page / word_pages) >> page % word_pages & 1) != 0;
}

std::uint64_t DirtyPages::word(std::size_t index) const noexcept { return at(index).load(std::memory_order_relaxed); }

void DirtyPages::add_word(std::size_t index, std::uint64_t bits) noexcept {
    if (bits != 0)
        at(index).fetch_or(bits, std::memory_order_relaxed);
}

std::uint64_t DirtyPages::take_word(std::size_t index) noexcept {
    return word(index) == 0 ? 0 : at(index).exchange(0, std::memory_order_seq_cst);
}

void DirtyPages::clear() noexcept {
    for (std::size_t i = 0; i < words(); ++i)
        static_cast<void>(take_word(i));
}

} // namespace inox
