// SPDX-License-Identifier: Apache-2.0
// Watches a guest's consoles for what Linux says when it panics (kernel/panic.c) and when it ends in order
// (kernel/reboot.c). It is the only sign of a panic that comes before the kernel has loaded a pvpanic driver.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/escape_filter.hpp"

namespace inox {

/// Thread-safe. Lines may come in pieces, with carriage returns and terminal escapes. Of a line, the last
/// `longest_line` characters, or half as many, are looked at; nothing is allocated until there is a panic.
class PanicText {
public:
    static constexpr std::size_t longest_line = 512;
    static constexpr std::size_t longest_reason = 200;

    enum class Console : std::uint8_t { serial, virtio };
    struct Hooks {
        /// A line says that the kernel panics, and why. In the thread that feeds, with no lock held.
        std::function<void(const std::string& reason)> on_panic{};
        /// It says that it is done and will spin for ever.
        std::function<void()> on_dead{};
    };
    explicit PanicText(Hooks hooks) : hooks_{std::move(hooks)} {}

    void feed(Console console, std::span<const std::byte> bytes) noexcept;

    /// The reason of the last panic, unless the kernel said since then that it restarts or powers off: after a panic it
    /// cannot, so the text was somebody else's.
    [[nodiscard]] std::optional<std::string> panicked() const;

private:
    enum class News : std::uint8_t { none, panic, dead };
    struct Line {
        std::array<char, longest_line> text{};
        std::size_t size{0};
        EscapeFilter escapes{};
        bool settled{false}; ///< it tells of a panic, and is long enough
    };
    /// True at the end of a line.
    static bool take(Line& line, char character) noexcept;
    static void make_room(Line& line) noexcept;
    News look(std::string_view line); // with the lock held

    Hooks hooks_;
    mutable std::mutex mutex_; // guards all below
    std::array<Line, 2> lines_{};
    std::optional<std::string> reason_{};
    bool other_kernel_{false}; ///< another one booted after the panic: what it says is not the first one's word
};

} // namespace inox
