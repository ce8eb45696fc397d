// SPDX-License-Identifier: Apache-2.0
// Memory that is mapped everywhere, page by page, to one page, and slow: work in it has no end within a test. Each
// thread has a page of its own, as what several do to one would be a race.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <vector>

#include "vmm/memory/dma_memory.hpp"

namespace inox::fakes {

class EndlessMemory final : public DmaMemory {
public:
    /// `delay`: what each hold costs.
    explicit EndlessMemory(std::chrono::microseconds delay) : delay_{delay} {}

    Hold hold() const override;
    [[nodiscard]] std::uint64_t generation() const noexcept override { return 0; }
    [[nodiscard]] Translated do_translate(Range<Iova> range, Access, std::vector<iovec>& out,
                                          TranslationLimit& limit) const noexcept override;

    static constexpr std::size_t page_count = 8;
    std::array<std::array<std::byte, page_size>, page_count> pages{};
    mutable std::atomic<std::uint64_t> holds{0};
    mutable std::atomic<std::uint64_t> longest{0}; ///< bytes asked for at once

private:
    const std::chrono::microseconds delay_;
};

} // namespace inox::fakes
