// SPDX-License-Identifier: Apache-2.0
// Log lines with levels, and a limiter for lines a guest can cause. Usable from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

namespace inox::log {

enum class Level : std::uint8_t { off, error, warning, info, debug, trace };

/// A level and where in the source it was asked for; made by write()'s caller without knowing.
struct Site {
    // NOLINTNEXTLINE(google-explicit-constructor): write(Level::error, ...) is how it is used
    Site(Level of, std::source_location from = std::source_location::current()) : level{of}, at{from} {}
    Level level;
    std::source_location at;
};

/// How lines look and which are written.
struct Style {
    /// What a line begins with; null: "inox: LEVEL: ". It writes no line itself.
    std::string (*prefix)(const Site& site, const Style& style){};
    std::string id{};        ///< of the instance
    bool show_level{false};  ///< for `prefix`
    bool show_origin{false}; ///< the same: FILE:LINE
    std::string module{};    ///< only lines from this part of the source, such as "devices::virtio"; empty: all
};
/// "ERROR", "WARN", ...
[[nodiscard]] const char* level_name(Level level);
/// A file below the source's top folder: "devices/virtio/net/net.cpp".
[[nodiscard]] std::string_view source_file(std::string_view file);

void set_level(Level level);
[[nodiscard]] bool enabled(Level level);
void set_style(Style style);
[[nodiscard]] Style style(); ///< for tests, which put it back
/// One line to the log's sink (standard error until a file is given).
[[gnu::format(printf, 2, 3)]] void write(Site site, const char* text, ...);
/// Lines go to this descriptor from now on; the caller keeps it open. Lines that would block or fail are dropped and
/// counted; the first failure is told on standard error with the file's path.
void set_sink(int fd, std::string path = {});
[[nodiscard]] std::uint64_t dropped();

/// "devices::virtio::net" of ".../devices/virtio/net.cpp".
[[nodiscard]] std::string module_of(std::string_view file);

/// For events a guest can cause at will: lets a burst of lines through each second and counts the rest.
class Throttle {
public:
    explicit Throttle(unsigned lines_per_second = 5) : limit_{lines_per_second} {}
    /// True when this event may be logged.
    [[nodiscard]] bool allow() noexcept;
    [[nodiscard]] std::uint64_t suppressed() const noexcept { return suppressed_.load(std::memory_order_relaxed); }

private:
    unsigned limit_;
    std::atomic<std::int64_t> second_{-1};
    std::atomic<unsigned> in_second_{0};
    std::atomic<std::uint64_t> suppressed_{0};
};

} // namespace inox::log
