// SPDX-License-Identifier: Apache-2.0
// Takes the escape sequences of terminals out of a console's text (ECMA-48, 5.4).
#pragma once

#include <cstdint>

namespace inox {

class EscapeFilter {
public:
    /// Whether the text's next character stands for itself. A line's end does, and ends a sequence.
    bool passes(char c) noexcept {
        constexpr char escape = 0x1b;
        if (c == '\n') {
            state_ = State::none;
            return true;
        }
        if (c == escape) {
            state_ = State::started;
            return false;
        }
        if (state_ == State::none)
            return true;
        if (state_ == State::started)
            state_ = c == '[' ? State::sequence : State::none; // other sequences have two characters
        else if (c >= '@' && c <= '~')
            state_ = State::none;
        return false;
    }

private:
    enum class State : std::uint8_t { none, started, sequence };
    State state_{State::none};
};

} // namespace inox
