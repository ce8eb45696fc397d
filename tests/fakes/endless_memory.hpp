// SPDX-License-Identifier: Apache-2.0
// Memory that is mapped everywhere, page by page, to one page, and slow: work in it has no end within a test. Each
// thread has a page of its own, as what several do to one would be a race.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "vmm/memory/dma_memory.hpp"

namespace inox::fakes {

class EndlessMemory final : public DmaMemory {
public:
    /// `delay`: what each hold costs.
    explicit EndlessMemory(std::chrono::microseconds delay) : delay_{delay} {}

    Hold hold() const override {
        ++holds;
        std::this_thread::sleep_for(delay_);
        return {};
    }
    [[nodiscard]] std::uint64_t generation() const noexcept override { return 0; }
    [[nodiscard]] Translated translate(Range<Iova> range, Access, std::vector<iovec>& out,
                                       TranslationLimit& limit) const noexcept override {
        const std::size_t before = out.size();
        longest = std::max(longest.load(), range.size_minus_one() + 1);
        static std::atomic<std::size_t> threads{0};
        thread_local const std::size_t mine = threads++ % page_count;
        for (std::uint64_t at = range.start().raw();;) {
            const auto size = std::min(range.last().raw() - at + 1, page_size - at % page_size);
            if (!limit.take_mapping() || !limit.take_piece()) {
                out.resize(before);
                return Translated::too_many;
            }
            // NOLINTNEXTLINE: a device writes through what it is given
            out.push_back({const_cast<std::byte*>(pages[mine].data()) + at % page_size, size});
            if (range.last().raw() - at < size)
                return Translated::whole;
            at += size;
        }
    }

    static constexpr std::size_t page_count = 8;
    std::array<std::array<std::byte, page_size>, page_count> pages{};
    mutable std::atomic<std::uint64_t> holds{0};
    mutable std::atomic<std::uint64_t> longest{0}; ///< bytes asked for at once

private:
    const std::chrono::microseconds delay_;
};

} // namespace inox::fakes
