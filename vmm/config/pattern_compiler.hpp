// SPDX-License-Identifier: Apache-2.0
// From the text of a regular expression to the parts that LinePattern visits.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/config/line_pattern.hpp"

namespace inox {

/// Reads the text to a tree, measures what the tree becomes, and only then makes it.
class PatternCompiler {
public:
    PatternCompiler(std::string_view text, LinePattern& out) : text_{text}, out_{out} {}
    /// Why not; empty when `out` is complete.
    std::string run();

private:
    using Set = std::bitset<256>;
    using Op = LinePattern::Op;
    using Place = LinePattern::Place;
    static constexpr unsigned no_limit = ~0U;
    enum class Kind : std::uint8_t { nothing, byte, assertion, sequence, choice, repetition };
    struct Node {
        Kind kind;
        std::size_t one{};   ///< a node, or a set
        std::size_t other{}; ///< sequence and choice: the second node
        Place place{};
        unsigned least{};
        unsigned most{};
        std::size_t size{0}; ///< parts, at most too_large; a repetition of nothing counts its rounds
    };
    static constexpr std::size_t too_large = LinePattern::most_parts + 1;
    struct Repetition {
        unsigned least;
        unsigned most;
    };

    std::size_t add(Node node);
    std::size_t byte(Set set);
    std::size_t read_choice(unsigned depth);
    std::size_t read_sequence(unsigned depth);
    std::size_t read_piece(unsigned depth);
    std::size_t read_group(unsigned depth);
    std::size_t read_escape();
    std::size_t read_bracket();
    void read_bracket_element(Set& set, bool first);
    /// One character; nullopt: a class or an error.
    std::optional<unsigned char> read_bracket_character(Set& set, bool first);
    void read_class(Set& set, std::string_view name);
    std::optional<Repetition> read_repetition();
    Repetition read_interval();
    std::optional<unsigned> read_number();
    std::size_t fail(std::string why);

    [[nodiscard]] bool at_end() const { return at_ == text_.size(); }
    [[nodiscard]] bool is_next(char c) const { return !at_end() && text_[at_] == c; }
    bool take(char c) { return is_next(c) && ++at_ != 0; }
    [[nodiscard]] bool failed() const { return !problem_.empty(); }

    void emit(std::size_t node);
    void emit_repetition(const Node& node);
    std::uint16_t here() const { return static_cast<std::uint16_t>(out_.parts_.size()); }

    std::string_view text_;
    LinePattern& out_;
    std::size_t at_{0};
    std::vector<Node> nodes_{};
    std::string problem_{};
};

} // namespace inox
