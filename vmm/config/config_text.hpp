// SPDX-License-Identifier: Apache-2.0
// Text an operator typed: sizes, times, misspelt names. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace inox {

/// Bytes of "512M", "4G", "4GiB", "131072K"; a plain number is MiB. nullopt when it is no size or does not fit 64 bits.
std::optional<std::uint64_t> parse_size(std::string_view text);
/// "500ms", "60s", "2m", "1h"; a plain number is seconds. nullopt when it is no time, 0, or beyond 366 days.
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);
/// What such a text is not, and how to write one: for those who refuse it.
std::string no_duration(std::string_view text);
inline constexpr const char* duration_rule = "write a whole number, such as 500ms, 60s, 2m or 1h; a plain number is "
                                             "seconds";
/// A decimal number, and nothing else.
std::optional<std::uint64_t> parse_number(std::string_view text);
/// "on", "yes", "true" and their opposites.
std::optional<bool> parse_switch(std::string_view text);

/// What a device may be called: 1 to 64 letters, digits, '_' and '-'.
bool is_id(std::string_view text);
/// A short one that hardly anything else has.
std::string new_id();
inline constexpr const char* id_rule = "use 1 to 64 letters, digits, '_' and '-'";

/// "512 MiB", "6 GiB", "1088 KiB": exact, in the largest unit that divides.
std::string size_text(std::uint64_t bytes);

/// The candidate that `word` was probably meant to be; empty when none is close. '-', '_' and case do not count. Never
/// one that is the opposite ("--no-x" and "--x", "rw" and "ro"): following the advice could allow what was forbidden.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);

/// `path` as seen from `folder`; unchanged when it is absolute or empty, or when the folder is empty.
std::string path_below(std::string_view folder, std::string path);

/// For messages: at most `limit` bytes, bytes that a terminal could act on replaced.
std::string printable(std::string_view text, std::size_t limit = 80);
/// The same between single quotes.
std::string in_quotes(std::string_view text);
/// "did you mean 'X'?" when a candidate is near, else `otherwise`.
std::string suggestion(std::string_view word, std::span<const std::string_view> candidates, std::string otherwise = {});

} // namespace inox
