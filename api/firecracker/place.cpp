// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/place.hpp"

#include <algorithm>

namespace inox::api::firecracker {
namespace {

constexpr std::string_view blanks = " \t\r\n";
constexpr auto npos = std::string_view::npos;

/// Walks over JSON that is known to be valid. Positions are of the next byte.
class Walker {
public:
    explicit Walker(std::string_view text) : text_{text} {}

    [[nodiscard]] std::size_t at() const { return at_; }
    char peek() {
        at_ = std::min(text_.find_first_not_of(blanks, at_), text_.size());
        return at_ < text_.size() ? text_[at_] : '\0';
    }
    void take() { ++at_; }

    /// The bytes between the quotes.
    std::string_view string() {
        const auto first = ++at_;
        while (at_ < text_.size() && text_[at_] != '"')
            at_ += text_[at_] == '\\' ? 2 : 1;
        return text_.substr(first, std::min(at_++, text_.size()) - first);
    }

    void skip() {
        std::size_t depth = 0;
        do {
            const char c = peek();
            if (c == '"') {
                string();
            } else if (c == '{' || c == '[') {
                ++depth;
                take();
            } else if (c == '}' || c == ']') {
                --depth;
                take();
            } else if (c == ',' || c == ':') {
                take();
            } else if (c == '\0') {
                return;
            } else {
                at_ = std::min(text_.find_first_of(",:]} \t\r\n", at_), text_.size());
            }
        } while (depth != 0);
    }

    /// Goes to the value of this member or element; false when the container has none.
    bool enter(std::string_view token, std::size_t& key_end) {
        const char kind = peek();
        if (kind != '{' && kind != '[')
            return false;
        take();
        for (std::size_t index = 0; peek() != '}' && peek() != ']' && peek() != '\0'; ++index) {
            bool found = false;
            if (kind == '{') {
                found = string() == token;
                key_end = at_ - 1;
                peek();
                take(); // ':'
            } else {
                found = std::to_string(index) == token;
            }
            peek();
            if (found)
                return true;
            skip();
            if (peek() == ',')
                take();
        }
        return false;
    }

private:
    std::string_view text_;
    std::size_t at_{0};
};

} // namespace

std::size_t last_byte(std::string_view text, std::string_view pointer, Part part) {
    Walker walker{text};
    std::size_t key_end = npos;
    while (!pointer.empty()) {
        pointer.remove_prefix(1);
        const auto slash = std::min(pointer.find('/'), pointer.size());
        if (!walker.enter(pointer.substr(0, slash), key_end))
            return npos;
        pointer.remove_prefix(slash);
    }
    if (part == Part::key)
        return key_end;
    walker.skip();
    return walker.at() - 1;
}

std::string line_and_column(std::string_view text, std::size_t offset) {
    const auto before = text.substr(0, std::min(offset, text.size()));
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const auto start = before.rfind('\n');
    const auto column = start == npos ? offset + 1 : offset - start;
    return "line " + std::to_string(line) + " column " + std::to_string(column);
}

} // namespace inox::api::firecracker
