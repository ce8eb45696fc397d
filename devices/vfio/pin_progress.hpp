// SPDX-License-Identifier: Apache-2.0
// Tells how far the kernel got with pinning memory, inside one long system call.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <thread>

namespace devices::vfio {

/// Reports once a second while it lives, from a thread of its own, how much of `total` bytes is pinned; and at its end
/// once more when it has reported before. Small totals have no thread.
class PinProgress {
public:
    using Report = std::function<void(std::uint64_t done, std::uint64_t total)>;
    static constexpr std::uint64_t large = std::uint64_t{4} << 30; ///< bytes; below this nobody waits
    /// `root` stands before /proc. `report` may be empty and outlives this.
    PinProgress(const std::string& root, std::uint64_t total, const Report& report);
    PinProgress(const PinProgress&) = delete;
    PinProgress& operator=(const PinProgress&) = delete;
    ~PinProgress() = default;

private:
    std::jthread thread_{};
};

} // namespace devices::vfio
