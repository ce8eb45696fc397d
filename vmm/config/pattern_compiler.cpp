// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/pattern_compiler.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace inox {

namespace {

constexpr unsigned largest_count = 32767; // RE_DUP_MAX of glibc

using Set = std::bitset<256>;

struct Class {
    std::string_view name;
    int (*has)(int byte);
};
constexpr Class classes[] = {{"alnum", std::isalnum}, {"alpha", std::isalpha}, {"blank", std::isblank},
                             {"cntrl", std::iscntrl}, {"digit", std::isdigit}, {"graph", std::isgraph},
                             {"lower", std::islower}, {"print", std::isprint}, {"punct", std::ispunct},
                             {"space", std::isspace}, {"upper", std::isupper}, {"xdigit", std::isxdigit}};

Set set_of(int (*has)(int byte)) {
    Set set;
    for (int byte = 0; byte < 128; ++byte)
        set[static_cast<std::size_t>(byte)] = has(byte) != 0;
    return set;
}

Set only(unsigned char byte) {
    Set set;
    set.set(byte);
    return set;
}

Set word_set() { return set_of(std::isalnum) | only('_'); }

} // namespace

std::string PatternCompiler::run() {
    const auto root = read_choice(0);
    if (failed())
        return problem_;
    if (nodes_[root].size >= too_large)
        return "its repetitions stand for too many characters: at most about " +
               std::to_string(LinePattern::most_parts);
    emit(root);
    out_.parts_.push_back({.op = Op::match});
    return {};
}

// The tree

std::size_t PatternCompiler::add(Node node) {
    const auto size = [&](std::size_t index) { return nodes_[index].size; };
    switch (node.kind) {
    case Kind::nothing:
        break;
    case Kind::byte:
    case Kind::assertion:
        node.size = 1;
        break;
    case Kind::sequence:
        node.size = size(node.one) + size(node.other);
        break;
    case Kind::choice:
        node.size = size(node.one) + size(node.other) + 2;
        break;
    case Kind::repetition: {
        const auto round = std::max<std::size_t>(size(node.one), 1); // at most 2^15 times 2^11
        if (node.most == no_limit)
            node.size = node.least == 0 ? round + 2 : node.least * round + 1;
        else
            node.size = node.least * round + (node.most - node.least) * (round + 1);
        break;
    }
    }
    node.size = std::min(node.size, too_large);
    nodes_.push_back(node);
    return nodes_.size() - 1;
}

std::size_t PatternCompiler::byte(Set set) {
    const auto& sets = out_.sets_;
    const auto found = static_cast<std::size_t>(std::ranges::find(sets, set) - sets.begin());
    if (found == sets.size())
        out_.sets_.push_back(set);
    return add({.kind = Kind::byte, .one = found});
}

std::size_t PatternCompiler::fail(std::string why) {
    if (!failed())
        problem_ = std::move(why);
    at_ = text_.size();
    return add({.kind = Kind::nothing});
}

// Reading

std::size_t PatternCompiler::read_choice(unsigned depth) {
    auto one = read_sequence(depth);
    while (take('|')) {
        const auto other = read_sequence(depth);
        one = add({.kind = Kind::choice, .one = one, .other = other});
    }
    return one;
}

std::size_t PatternCompiler::read_sequence(unsigned depth) {
    auto one = add({.kind = Kind::nothing});
    while (!at_end() && !is_next('|') && (depth == 0 || !is_next(')'))) {
        const auto other = read_piece(depth);
        one = add({.kind = Kind::sequence, .one = one, .other = other});
    }
    return one;
}

std::size_t PatternCompiler::read_piece(unsigned depth) {
    const char c = text_[at_++];
    std::size_t node = 0;
    switch (c) {
    case '*':
    case '+':
    case '?':
    case '{':
        return fail(std::string{"there is nothing before '"} + c + "' that it could repeat");
    case '^':
        return add({.kind = Kind::assertion, .place = Place::line_start}); // nothing repeats it
    case '$':
        return add({.kind = Kind::assertion, .place = Place::line_end});
    case '(':
        node = read_group(depth);
        break;
    case '[':
        node = read_bracket();
        break;
    case '.':
        node = byte(Set{}.set());
        break;
    case '\\':
        node = read_escape();
        if (nodes_[node].kind == Kind::assertion)
            return node;
        break;
    default:
        node = byte(only(static_cast<unsigned char>(c)));
    }
    while (const auto repetition = read_repetition())
        node = add({.kind = Kind::repetition, .one = node, .least = repetition->least, .most = repetition->most});
    return node;
}

std::size_t PatternCompiler::read_group(unsigned depth) {
    const auto node = read_choice(depth + 1);
    return take(')') || failed() ? node : fail("a ( without its )");
}

std::size_t PatternCompiler::read_escape() {
    if (at_end())
        return fail("a backslash at its end");
    const char c = text_[at_++];
    const auto assertion = [&](Place place) { return add({.kind = Kind::assertion, .place = place}); };
    switch (c) {
    case 'w':
        return byte(word_set());
    case 'W':
        return byte(~word_set());
    case 's':
        return byte(set_of(std::isspace));
    case 'S':
        return byte(~set_of(std::isspace));
    case '`':
        return assertion(Place::line_start);
    case '\'':
        return assertion(Place::line_end);
    case 'b':
        return assertion(Place::word_edge);
    case 'B':
        return assertion(Place::no_word_edge);
    case '<':
        return assertion(Place::word_start);
    case '>':
        return assertion(Place::word_end);
    default:
        if (c >= '1' && c <= '9')
            return fail(std::string{"a back-reference (\\"} + c + "), which may take for ever to find");
        return byte(only(static_cast<unsigned char>(c)));
    }
}

std::optional<PatternCompiler::Repetition> PatternCompiler::read_repetition() {
    if (take('*'))
        return Repetition{0, no_limit};
    if (take('+'))
        return Repetition{1, no_limit};
    if (take('?'))
        return Repetition{0, 1};
    if (take('{'))
        return read_interval();
    return std::nullopt;
}

PatternCompiler::Repetition PatternCompiler::read_interval() {
    const auto least = read_number();
    const bool open = take(',');
    const auto most = open ? read_number() : least;
    if (failed())
        return {};
    if (!take('}') || (!least && !open)) {
        fail("a { that is not followed by a count such as {2}, {2,} or {2,5}");
        return {};
    }
    if (least && most && *least > *most) {
        fail("a count whose end is below its start");
        return {};
    }
    return {least.value_or(0), most.value_or(no_limit)};
}

std::optional<unsigned> PatternCompiler::read_number() {
    unsigned number = 0;
    const auto start = at_;
    while (!at_end() && text_[at_] >= '0' && text_[at_] <= '9') {
        number = number * 10 + static_cast<unsigned>(text_[at_++] - '0');
        if (number > largest_count) {
            fail("a count above " + std::to_string(largest_count));
            return std::nullopt;
        }
    }
    return at_ == start ? std::nullopt : std::optional{number};
}

// Bracket expressions

std::size_t PatternCompiler::read_bracket() {
    const bool inverted = take('^');
    Set set;
    bool first = true;
    while (!failed() && (first || !is_next(']'))) {
        if (at_end())
            return fail("a [ without its ]");
        read_bracket_element(set, std::exchange(first, false));
    }
    if (failed())
        return fail({});
    ++at_;
    return byte(inverted ? ~set : set);
}

void PatternCompiler::read_bracket_element(Set& set, bool first) {
    const auto start = read_bracket_character(set, first);
    const bool range = is_next('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']';
    if (failed() || (!start && !range))
        return;
    if (!range)
        return static_cast<void>(set.set(*start));
    ++at_;
    const auto end = read_bracket_character(set, true);
    if (failed())
        return;
    if (!start || !end || *start > *end)
        return static_cast<void>(fail("a range in [ ] that is none"));
    for (unsigned byte = *start; byte <= *end; ++byte)
        set.set(byte);
}

std::optional<unsigned char> PatternCompiler::read_bracket_character(Set& set, bool first) {
    const char c = text_[at_++];
    const char kind = at_end() ? '\0' : text_[at_];
    if (c == '[' && (kind == '.' || kind == '=' || kind == ':')) {
        const auto end = text_.find(std::string{kind, ']'}, at_ + 1);
        if (end == text_.npos) {
            fail("a [ without its ]");
            return std::nullopt;
        }
        const auto name = text_.substr(at_ + 1, end - at_ - 1);
        at_ = end + 2;
        if (kind == ':') {
            read_class(set, name);
            return std::nullopt;
        }
        if (name.size() != 1) {
            fail("a name in [ ] that is not one character");
            return std::nullopt;
        }
        if (kind == '.')
            return static_cast<unsigned char>(name[0]);
        set.set(static_cast<unsigned char>(name[0]));
        return std::nullopt;
    }
    if (c == '-' && !first && !is_next(']')) {
        fail("a - in [ ] that is neither first, nor last, nor between two characters");
        return std::nullopt;
    }
    return static_cast<unsigned char>(c);
}

void PatternCompiler::read_class(Set& set, std::string_view name) {
    const auto* found = std::ranges::find(classes, name, &Class::name);
    if (found == std::end(classes))
        return static_cast<void>(fail("there is no class of characters with such a name in [: :]"));
    set |= set_of(found->has);
}

// The parts

void PatternCompiler::emit(std::size_t index) {
    const Node& node = nodes_[index];
    auto& parts = out_.parts_;
    switch (node.kind) {
    case Kind::nothing:
        break;
    case Kind::byte:
        parts.push_back({.op = Op::byte, .one = static_cast<std::uint16_t>(node.one)});
        break;
    case Kind::assertion:
        parts.push_back({.op = Op::assertion, .place = node.place});
        break;
    case Kind::sequence:
        emit(node.one);
        emit(node.other);
        break;
    case Kind::choice: {
        const auto fork = here();
        parts.push_back({.op = Op::fork, .one = static_cast<std::uint16_t>(fork + 1)});
        emit(node.one);
        const auto jump = here();
        parts.push_back({.op = Op::jump});
        parts[fork].other = here();
        emit(node.other);
        parts[jump].one = here();
        break;
    }
    case Kind::repetition:
        emit_repetition(node);
        break;
    }
}

void PatternCompiler::emit_repetition(const Node& node) {
    auto& parts = out_.parts_;
    const auto fork = [&](std::uint16_t one) { parts.push_back({.op = Op::fork, .one = one}); };
    auto last = here();
    for (unsigned i = 0; i < node.least; ++i) {
        last = here();
        emit(node.one);
    }
    if (node.most == no_limit && node.least != 0) {
        fork(last);
        parts.back().other = here();
        return;
    }
    const auto first = here();
    const unsigned more = node.most == no_limit ? 1 : node.most - node.least;
    std::vector<std::uint16_t> forks;
    for (unsigned i = 0; i < more; ++i) {
        forks.push_back(here());
        fork(static_cast<std::uint16_t>(here() + 1));
        emit(node.one);
    }
    if (node.most == no_limit)
        parts.push_back({.op = Op::jump, .one = first});
    for (const auto one : forks)
        parts[one].other = here();
}

} // namespace inox
