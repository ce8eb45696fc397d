// SPDX-License-Identifier: Apache-2.0
// Memory that is mapped everywhere, page by page, to one page, and slow: work in it has no end within a test.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "vmm/memory/dma_memory.hpp"

namespace fakes {

class EndlessMemory final : public vmm::DmaMemory {
public:
    /// `delay`: what each hold costs.
    explicit EndlessMemory(std::chrono::microseconds delay) : delay_{delay} {}

    Hold hold() const override {
        ++holds;
        std::this_thread::sleep_for(delay_);
        return {};
    }
    [[nodiscard]] std::uint64_t generation() const noexcept override { return 0; }
    bool translate(vmm::Range<vmm::Iova> range, vmm::Access, std::vector<iovec>& out) const noexcept override {
        longest = std::max(longest.load(), range.size_minus_one() + 1);
        for (std::uint64_t at = range.start().raw();;) {
            const auto size = std::min(range.last().raw() - at + 1, vmm::page_size - at % vmm::page_size);
            // NOLINTNEXTLINE: a device writes through what it is given
            out.push_back({const_cast<std::byte*>(page.data()) + at % vmm::page_size, size});
            if (range.last().raw() - at < size)
                return true;
            at += size;
        }
    }

    std::array<std::byte, vmm::page_size> page{};
    mutable std::atomic<std::uint64_t> holds{0};
    mutable std::atomic<std::uint64_t> longest{0}; ///< bytes asked for at once

private:
    const std::chrono::microseconds delay_;
};

} // namespace fakes
