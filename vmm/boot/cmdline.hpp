// SPDX-License-Identifier: Apache-2.0
// A kernel command line as Linux takes it apart (lib/cmdline.c, next_arg; kernel/params.c, parse_args).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace inox::boot {

/// Words are separated by white space outside of double quotes. Quotes around a whole word, or around its value, are
/// not part of it; '-' and '_' are the same character in a name.
struct CmdlineWord {
    std::string_view name{};
    std::optional<std::string_view> value{}; ///< empty: the word has no '='
    std::string_view raw{};                  ///< as it stands in the line
};

/// The kernel's own words, in order: what stands behind the word "--" is for the init program. Views into `line`.
std::vector<CmdlineWord> cmdline_words(std::string_view line);

/// The last word of the kernel's own with this name: Linux lets later words win.
std::optional<CmdlineWord> find_cmdline_word(std::string_view line, std::string_view name);

/// The line without any of the kernel's own words of this name; the rest stays as it is, byte for byte.
std::string without_cmdline_word(std::string_view line, std::string_view name);

/// The line with `words` as the last ones of the kernel's own; unchanged without any.
std::string with_cmdline_words(std::string_view line, std::string_view words);

} // namespace inox::boot
