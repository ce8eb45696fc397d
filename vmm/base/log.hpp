// SPDX-License-Identifier: Apache-2.0
// Log lines with levels, and a limiter for lines a guest can cause. Usable from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace vmm::log {

enum class Level : std::uint8_t { off, error, warning, info, debug, trace };

void set_level(Level level);
[[nodiscard]] bool enabled(Level level);
/// One line to the log's sink (standard error until a file is given).
[[gnu::format(printf, 2, 3)]] void write(Level level, const char* text, ...);
/// Lines go to this descriptor from now on; the caller keeps it open. Lines that would block are dropped and counted.
void set_sink(int fd);
[[nodiscard]] std::uint64_t dropped();

/// For events a guest can cause at will: lets a burst of lines through each second and counts the rest.
class RateLimiter {
public:
    explicit RateLimiter(unsigned lines_per_second = 5) : limit_{lines_per_second} {}
    /// True when this event may be logged.
    [[nodiscard]] bool allow() noexcept;
    [[nodiscard]] std::uint64_t suppressed() const noexcept { return suppressed_.load(std::memory_order_relaxed); }

private:
    unsigned limit_;
    std::atomic<std::int64_t> second_{-1};
    std::atomic<unsigned> in_second_{0};
    std::atomic<std::uint64_t> suppressed_{0};
};

} // namespace vmm::log
