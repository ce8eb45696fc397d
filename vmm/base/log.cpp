// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/log.hpp"

#include <array>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <unistd.h>

namespace vmm::log {
namespace {

std::atomic<Level> current{Level::warning};
std::atomic<int> sink{STDERR_FILENO};
std::atomic<std::uint64_t> dropped_lines{0};

constexpr std::array<const char*, 6> names{"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"};

} // namespace

void set_level(Level level) { current = level; }
bool enabled(Level level) { return level <= current.load(std::memory_order_relaxed); }
void set_sink(int fd) { sink = fd; }
std::uint64_t dropped() { return dropped_lines; }

void write(Level level, const char* text, ...) {
    if (!enabled(level))
        return;
    std::array<char, 1024> line{};
    const int prefix = std::snprintf(line.data(), line.size(), "inox: %s: ", names[static_cast<std::size_t>(level)]);
    auto used = static_cast<std::size_t>(prefix);
    va_list args;
    va_start(args, text);
    const int body = std::vsnprintf(line.data() + used, line.size() - used - 1, text, args);
    va_end(args);
    if (body > 0)
        used = std::min(used + static_cast<std::size_t>(body), line.size() - 2);
    line[used++] = '\n';
    if (::write(sink.load(std::memory_order_relaxed), line.data(), used) < 0)
        dropped_lines.fetch_add(1, std::memory_order_relaxed);
}

bool RateLimiter::allow() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    std::int64_t second = second_.load(std::memory_order_relaxed);
    if (second != now.tv_sec && second_.compare_exchange_strong(second, now.tv_sec, std::memory_order_relaxed))
        in_second_.store(0, std::memory_order_relaxed);
    if (in_second_.fetch_add(1, std::memory_order_relaxed) < limit_)
        return true;
    suppressed_.fetch_add(1, std::memory_order_relaxed);
    return false;
}

} // namespace vmm::log
