// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/cmdline.hpp"

#include <algorithm>

namespace inox::boot {
namespace {

constexpr std::string_view end_of_kernel_words = "--";

/// isspace() of the kernel: ASCII's, and the no-break space of Latin-1.
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || static_cast<unsigned char>(c) == 0xa0; }

/// Up to the blank that ends the word. A quote that is never closed reaches to the end of the line.
std::string_view next_raw(std::string_view line) {
    bool quoted = false;
    std::size_t at = 0;
    for (; at < line.size() && (quoted || !is_space(line[at])); ++at)
        if (line[at] == '"')
            quoted = !quoted;
    return line.substr(0, at);
}

CmdlineWord word_of(std::string_view raw) {
    std::string_view text = raw;
    const bool quoted = text.starts_with('"');
    if (quoted) {
        text.remove_prefix(1);
        if (text.ends_with('"'))
            text.remove_suffix(1);
    }
    const auto equals = text.find('=', 1); // one at the start is a part of the name
    if (equals == text.npos)
        return {text, std::nullopt, raw};
    std::string_view value = text.substr(equals + 1);
    if (value.starts_with('"')) {
        value.remove_prefix(1);
        if (!quoted && value.ends_with('"'))
            value.remove_suffix(1);
    }
    return {text.substr(0, equals), value, raw};
}

bool same_name(std::string_view a, std::string_view b) {
    const auto dashed = [](char c) { return c == '-' ? '_' : c; };
    return std::ranges::equal(a, b, {}, dashed, dashed);
}

/// Where the kernel's own parameters end: at the word "--", or at the end of the line.
std::size_t end_of_own(std::string_view line, std::vector<CmdlineWord>* words) {
    std::size_t at = 0;
    while (at < line.size()) {
        if (is_space(line[at])) {
            ++at;
            continue;
        }
        const CmdlineWord word = word_of(next_raw(line.substr(at)));
        if (word.name == end_of_kernel_words && !word.value)
            return at;
        if (words != nullptr)
            words->push_back(word);
        at += word.raw.size();
    }
    return at;
}

} // namespace

std::vector<CmdlineWord> cmdline_words(std::string_view line) {
    std::vector<CmdlineWord> words;
    end_of_own(line, &words);
    return words;
}

std::optional<CmdlineWord> find_cmdline_word(std::string_view line, std::string_view name) {
    std::optional<CmdlineWord> found;
    for (const CmdlineWord& word : cmdline_words(line))
        if (same_name(word.name, name))
            found = word;
    return found;
}

std::string without_cmdline_word(std::string_view line, std::string_view name) {
    std::string out;
    std::size_t kept = 0; // what is before it was copied to `out` or left out
    for (const CmdlineWord& word : cmdline_words(line)) {
        if (!same_name(word.name, name))
            continue;
        const auto start = static_cast<std::size_t>(word.raw.data() - line.data());
        out += line.substr(kept, start - kept);
        kept = start + word.raw.size();
        // One blank goes with the word: the one behind it, or at the end of the line the one before it.
        if (kept < line.size())
            ++kept;
        else if (!out.empty())
            out.pop_back();
    }
    return out.append(line.substr(kept));
}

std::string with_cmdline_words(std::string_view line, std::string_view words) {
    if (words.empty())
        return std::string{line};
    const std::size_t end = end_of_own(line, nullptr);
    std::string out{line.substr(0, end)};
    if (std::ranges::count(out, '"') % 2 != 0) // a quote that is never closed would take the words in
        out += '"';
    if (!out.empty() && !is_space(out.back()))
        out += ' ';
    out += words;
    if (end < line.size())
        out.append(" ").append(line.substr(end));
    return out;
}

} // namespace inox::boot
