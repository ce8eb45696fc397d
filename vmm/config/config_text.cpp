// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <sys/random.h>
#include <vector>

#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"

namespace inox {
namespace {

struct Unit {
    std::string_view name;
    std::uint64_t factor;
};

/// Number and unit, multiplied; nullopt for anything else and on overflow.
std::optional<std::uint64_t> scaled(std::string_view text, std::span<const Unit> units) {
    const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
    const auto number = parse_number(text.substr(0, digits));
    const auto unit = std::ranges::find(units, text.substr(digits), &Unit::name);
    std::uint64_t result{};
    if (!number || unit == units.end() || __builtin_mul_overflow(*number, unit->factor, &result))
        return std::nullopt;
    return result;
}

char folded(char c) {
    if (c == '_')
        return '-';
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Insertions, deletions, replacements and swaps of neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before(b.size() + 1);
    std::vector<std::size_t> above(b.size() + 1);
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j)
        above[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const bool same = folded(a[i - 1]) == folded(b[j - 1]);
            row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1)});
            if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) && folded(a[i - 2]) == folded(b[j - 1]))
                row[j] = std::min(row[j], before[j - 2] + 1);
        }
        std::swap(before, above);
        std::swap(above, row);
    }
    return above[b.size()];
}

/// Behind the dashes of an option.
std::string_view letters_of(std::string_view word) {
    return word.substr(std::min(word.find_first_not_of('-'), word.size()));
}

/// One of the words forbids, the other does not.
bool differ_in_negation(std::string_view a, std::string_view b) {
    const auto denies = [](std::string_view word) {
        return std::ranges::any_of(std::array<std::string_view, 3>{"no", "un", "disable"}, [&](std::string_view start) {
            return word.size() > start.size() + 1 &&
                   std::ranges::equal(word.substr(0, start.size()), start, {}, folded);
        });
    };
    a = letters_of(a);
    b = letters_of(b);
    return denies(a) != denies(b);
}

} // namespace

std::optional<std::uint64_t> parse_number(std::string_view text) {
    std::uint64_t value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

std::optional<bool> parse_switch(std::string_view text) {
    if (text == "on" || text == "yes" || text == "true")
        return true;
    if (text == "off" || text == "no" || text == "false")
        return false;
    return std::nullopt;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
    static constexpr Unit units[] = {{"", MiB},    {"K", KiB},   {"k", KiB},   {"M", MiB},       {"m", MiB},
                                     {"G", GiB},   {"g", GiB},   {"KB", KiB},  {"MB", MiB},      {"GB", GiB},
                                     {"KiB", KiB}, {"MiB", MiB}, {"GiB", GiB}, {"T", KiB * GiB}, {"TiB", KiB * GiB}};
    return scaled(text, units);
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
    static constexpr Unit units[] = {{"", 1000},    {"ms", 1},       {"s", 1000},
                                     {"m", 60'000}, {"min", 60'000}, {"h", 3'600'000}};
    static constexpr std::uint64_t year = 366ULL * 24 * 3'600'000;
    const auto value = scaled(text, units);
    if (!value || *value == 0 || *value > year)
        return std::nullopt;
    return std::chrono::milliseconds{static_cast<std::int64_t>(*value)};
}

std::string no_duration(std::string_view text) { return in_quotes(text) + " is not a time from 1ms to 366 days"; }

bool is_id(std::string_view text) {
    return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [](unsigned char c) {
        return c == '_' || c == '-' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    });
}

std::string new_id() {
    static constexpr std::string_view letters = "abcdefghijkmnpqrstuvwxyz23456789";
    static_assert(letters.size() == 32);
    std::string id(6, 'g');
    (void)!::getrandom(id.data() + 1, id.size() - 1, GRND_NONBLOCK); // without: another guest may have the id
    std::ranges::transform(id.begin() + 1, id.end(), id.begin() + 1,
                           [](char c) { return letters[static_cast<unsigned char>(c) % letters.size()]; });
    return id;
}

std::string size_text(std::uint64_t bytes) {
    static constexpr Unit units[] = {{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}};
    for (const auto& unit : units)
        if (bytes != 0 && bytes % unit.factor == 0)
            return format("%llu %s", static_cast<unsigned long long>(bytes / unit.factor), unit.name.data());
    return format("%llu bytes", static_cast<unsigned long long>(bytes));
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
    static constexpr std::size_t longest_word = 64;
    std::string_view best;
    const auto letters = letters_of(word).size();
    // A third of the letters may differ; of three or four, one; of fewer, only case.
    std::size_t best_distance = (letters < 3 ? 0 : std::max<std::size_t>(1, letters / 3)) + 1;
    if (word.size() > longest_word)
        return best;
    for (const auto candidate : candidates) {
        if (differ_in_negation(word, candidate))
            continue;
        const std::size_t distance = edit_distance(word, candidate);
        if (distance < best_distance && distance < std::max(word.size(), candidate.size())) {
            best = candidate;
            best_distance = distance;
        }
    }
    // "--mem" means "--memory" rather than "--net"; "--cpu" is "--cpus" either way.
    if (best_distance <= 1 || word.size() < 3)
        return best;
    const auto prefixed = std::ranges::find_if(candidates, [&](auto name) { return name.starts_with(word); });
    return prefixed == candidates.end() ? best : *prefixed;
}

std::string path_below(std::string_view folder, std::string path) {
    if (folder.empty() || path.empty() || path.starts_with('/'))
        return path;
    return std::string{folder} + (folder.ends_with('/') ? "" : "/") + path;
}

std::string printable(std::string_view text, std::size_t limit) {
    std::string out;
    for (const char c : text.substr(0, limit))
        out += c >= 0x20 && c < 0x7f ? c : '?';
    if (text.size() > limit)
        out += "...";
    return out;
}

std::string in_quotes(std::string_view text) {
    std::string out{"'"};
    out.append(printable(text)).append("'");
    return out;
}

std::string suggestion(std::string_view word, std::span<const std::string_view> candidates, std::string otherwise) {
    const auto near = nearest(word, candidates);
    if (near.empty())
        return otherwise;
    return "did you mean " + in_quotes(near) + "?";
}

} // namespace inox
