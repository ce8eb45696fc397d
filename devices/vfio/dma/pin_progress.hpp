// SPDX-License-Identifier: Apache-2.0
// Tells how far memory is made ready for DMA: gathered into huge pages, then pinned inside one long system call.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

namespace inox::devices::vfio {

/// Reports once a second while it lives, from a thread of its own, how much of `total` bytes is done; and at its end
/// once more when it has reported before. Small totals have no thread. Pinning gathered memory takes next to no time,
/// and of memory that cannot be gathered no byte is: so what is further of the two is how far it got.
class PinProgress {
public:
    using Report = std::function<void(std::uint64_t done, std::uint64_t total)>;
    static constexpr std::uint64_t large = std::uint64_t{4} << 30; ///< bytes; below this nobody waits
    /// `root` stands before /proc. `report` may be empty and outlives this.
    PinProgress(const std::string& root, std::uint64_t total, const Report& report);
    PinProgress(const PinProgress&) = delete;
    PinProgress& operator=(const PinProgress&) = delete;
    ~PinProgress() = default;

    /// Bytes more are gathered.
    void gathered(std::uint64_t more) noexcept { gathered_.fetch_add(more, std::memory_order_relaxed); }

private:
    void watch(const std::stop_token& stop, const std::string& root, std::uint64_t before, std::uint64_t total,
               const Report& report) const;

    std::atomic<std::uint64_t> gathered_{0};
    std::jthread thread_{};
};

} // namespace inox::devices::vfio
