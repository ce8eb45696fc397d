// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/panic_text.hpp"

#include <algorithm>

namespace inox {
namespace {

constexpr std::string_view panic_words = "Kernel panic - not syncing";
constexpr std::string_view dead_words = "---[ end Kernel panic";
constexpr std::string_view boot_words = "Linux version ";
// The kernel prints these only on paths that neither a panic nor an emergency restart takes.
constexpr std::string_view orderly_words[] = {"reboot: Restarting system", "reboot: machine restart",
                                              "reboot: Power down", "reboot: Power off not available",
                                              "reboot: System halted"};

/// The kernel's text without level, time stamp and caller: "<0>[    1.234567][    T1] text".
std::string_view without_prefix(std::string_view line) {
    const auto skip = [&](char open, char close) {
        const auto end = line.starts_with(open) ? line.find(close) : line.npos;
        if (end == line.npos)
            return false;
        line.remove_prefix(end + 1);
        return true;
    };
    skip('<', '>');
    while (line.starts_with('[') && skip('[', ']')) {
    }
    return line.substr(std::min(line.find_first_not_of(' '), line.size()));
}

bool printable(char c) { return c >= ' ' && c <= '~'; }

} // namespace

/// Drops the first half of a full line, because a kernel's own text would be at its end. A panic moves to the front,
/// with the characters before it that tell its last line from its first, and then stays.
void PanicText::make_room(Line& line) noexcept {
    constexpr std::size_t kept_before = 16;
    const auto at = std::string_view{line.text.data(), line.size}.find(panic_words);
    line.settled = at <= kept_before;
    if (line.settled)
        return;
    const std::size_t from = at == std::string_view::npos ? longest_line / 2 : at - kept_before;
    line.size -= from;
    std::copy_n(line.text.data() + from, line.size, line.text.data());
}

bool PanicText::take(Line& line, char c) noexcept {
    if (!line.escapes.passes(c))
        return false;
    if (c == '\n')
        return true;
    if (printable(c) && !line.settled) {
        line.text[line.size++] = c;
        if (line.size == line.text.size())
            make_room(line);
    }
    return false;
}

void PanicText::feed(Console console, std::span<const std::byte> bytes) noexcept {
    std::unique_lock lock{mutex_};
    Line& line = lines_[static_cast<std::size_t>(console)];
    for (const auto byte : bytes) {
        if (!take(line, static_cast<char>(byte)))
            continue;
        const News news = look({line.text.data(), line.size});
        line.size = 0;
        line.settled = false;
        if (news == News::none)
            continue;
        const std::string reason = reason_.value_or("");
        lock.unlock();
        if (news == News::panic && hooks_.on_panic)
            hooks_.on_panic(reason);
        if (news == News::dead && hooks_.on_dead)
            hooks_.on_dead();
        lock.lock();
    }
}

PanicText::News PanicText::look(std::string_view line) {
    // The words may be anywhere in a line: a program's prompt may come before them.
    if (line.find(dead_words) != line.npos)
        return reason_ ? News::dead : News::none;
    if (const auto at = line.find(panic_words); at != line.npos) {
        std::string_view reason = line.substr(at + panic_words.size());
        reason.remove_prefix(std::min(reason.find_first_not_of(": "), reason.size()));
        const bool again = reason_ && *reason_ == reason.substr(0, longest_reason);
        reason_ = std::string{reason.substr(0, longest_reason)};
        other_kernel_ = false;
        return again ? News::none : News::panic; // each console shows the same panic
    }
    if (!reason_)
        return News::none;
    const std::string_view text = without_prefix(line);
    if (text.starts_with(boot_words))
        other_kernel_ = true;
    else if (!other_kernel_ && std::ranges::any_of(orderly_words, [&](auto words) { return text.starts_with(words); }))
        reason_.reset();
    return News::none;
}

std::optional<std::string> PanicText::panicked() const {
    const std::lock_guard lock{mutex_};
    return reason_;
}

} // namespace inox
