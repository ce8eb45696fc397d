// SPDX-License-Identifier: Apache-2.0
// POSIX extended regular expressions (IEEE Std 1003.1, Base Definitions 9.4) with what GNU adds to them, except
// back-references. An expression and a text that mean harm cost no more than others of their size: an expression is
// bounded as it is when its repetitions are written out, and each byte of text costs at most one visit to each part.
#pragma once

#include <bitset>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace inox {

/// Looks for an expression in one line after the other. Bytes are characters, as in the C locale. One thread at a time.
class LinePattern {
public:
    static constexpr std::size_t longest = 1000;    ///< characters
    static constexpr std::size_t most_parts = 1000; ///< about one for each character that a repetition stands for

    /// The error says why the text is no such expression, or that it is too large.
    static std::expected<LinePattern, std::string> compile(std::string_view text);

    [[nodiscard]] std::size_t parts() const noexcept { return parts_.size(); }
    /// A line begins.
    void restart() noexcept;
    /// The line goes on with this byte.
    void feed(char byte) noexcept { advance(static_cast<unsigned char>(byte)); }
    /// Whether the line holds the expression, however it goes on.
    [[nodiscard]] bool found_already() noexcept {
        visit(unknown_byte);
        return found_;
    }
    /// Whether it holds the expression if it ends here.
    [[nodiscard]] bool found() noexcept {
        const bool sure = found_;
        visit(no_byte);
        return std::exchange(found_, sure);
    }

private:
    friend class PatternCompiler;
    enum class Op : std::uint8_t { byte, fork, jump, assertion, match };
    enum class Place : std::uint8_t { line_start, line_end, word_edge, no_word_edge, word_start, word_end };
    struct Part {
        Op op;
        Place place{};         ///< of an assertion
        std::uint16_t one{};   ///< byte: its set; fork and jump: the next part
        std::uint16_t other{}; ///< fork: the other next part
    };
    static constexpr int no_byte = -1;      ///< the line's start or end
    static constexpr int unknown_byte = -2; ///< or the line's end: nothing that depends on it holds

    LinePattern() = default;
    void advance(int byte) noexcept;
    void visit(int next) noexcept;
    void reach(std::uint16_t part) noexcept;
    [[nodiscard]] bool holds(Place place, int next) const noexcept;

    std::vector<Part> parts_{};
    std::vector<std::bitset<256>> sets_{};

    // Where the search is; no vector grows after compile().
    std::vector<std::uint16_t> reached_{}; ///< after the last byte
    std::vector<std::uint16_t> waiting_{}; ///< bytes among the parts visited
    std::vector<std::uint16_t> stack_{};
    std::vector<std::uint32_t> visited_{}; ///< by which visit() last
    std::uint32_t visit_{0};
    int last_{no_byte};
    bool found_{false};
};

} // namespace inox
