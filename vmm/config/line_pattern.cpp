// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/line_pattern.hpp"

#include <algorithm>

#include "vmm/config/pattern_compiler.hpp"

namespace inox {
namespace {

bool is_word(int byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == '_';
}

} // namespace

std::expected<LinePattern, std::string> LinePattern::compile(std::string_view text) {
    if (text.size() > longest)
        return std::unexpected{"longer than " + std::to_string(longest) + " characters"};
    if (text.find_first_of("\r\n") != text.npos)
        return std::unexpected{"a line break, but each line is searched by itself"};
    LinePattern pattern;
    if (auto problem = PatternCompiler{text, pattern}.run(); !problem.empty())
        return std::unexpected{std::move(problem)};
    const auto parts = pattern.parts_.size();
    pattern.reached_.reserve(parts);
    pattern.waiting_.reserve(parts);
    pattern.stack_.reserve(parts);
    pattern.visited_.resize(parts);
    return pattern;
}

void LinePattern::restart() noexcept {
    reached_.clear();
    last_ = no_byte;
    found_ = false;
}

void LinePattern::advance(int byte) noexcept {
    if (found_)
        return;
    visit(byte);
    reached_.clear();
    for (const auto part : waiting_)
        if (sets_[parts_[part].one].test(static_cast<std::size_t>(byte)))
            reached_.push_back(static_cast<std::uint16_t>(part + 1));
    last_ = byte;
}

/// Follows all ways up to the next byte. An expression may begin anywhere in the line.
void LinePattern::visit(int next) noexcept {
    if (found_)
        return;
    if (++visit_ == 0) { // after 2^32 bytes
        std::ranges::fill(visited_, 0);
        visit_ = 1;
    }
    waiting_.clear();
    for (const auto part : reached_)
        reach(part);
    reach(0);
    while (!stack_.empty()) {
        const auto at = stack_.back();
        stack_.pop_back();
        const Part& part = parts_[at];
        switch (part.op) {
        case Op::byte:
            waiting_.push_back(at);
            break;
        case Op::fork:
            reach(part.other);
            [[fallthrough]];
        case Op::jump:
            reach(part.one);
            break;
        case Op::assertion:
            if (holds(part.place, next))
                reach(static_cast<std::uint16_t>(at + 1));
            break;
        case Op::match:
            found_ = true;
            break;
        }
    }
}

void LinePattern::reach(std::uint16_t part) noexcept {
    if (visited_[part] == visit_)
        return;
    visited_[part] = visit_;
    stack_.push_back(part);
}

bool LinePattern::holds(Place place, int next) const noexcept {
    if (place == Place::line_start)
        return last_ == no_byte;
    if (next == unknown_byte)
        return false;
    const bool before = is_word(last_);
    const bool after = is_word(next);
    switch (place) {
    case Place::line_start:
        break;
    case Place::line_end:
        return next == no_byte;
    case Place::word_edge:
        return before != after;
    case Place::no_word_edge:
        return before == after;
    case Place::word_start:
        return !before && after;
    case Place::word_end:
        return before && !after;
    }
    return false;
}

} // namespace inox
