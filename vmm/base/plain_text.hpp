// SPDX-License-Identifier: Apache-2.0
// Text that came from elsewhere, on its way to a terminal or a log. Pure.
#pragma once

#include <span>
#include <string_view>

namespace inox {

/// Puts '?' in place of each byte that a terminal acts on (C0 and C1 controls, DEL), except of those in `kept`.
inline void make_plain(std::span<char> text, std::string_view kept = {}) noexcept {
    bool c1_follows = false; // after 0xc2 of UTF-8
    for (char& c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const bool control = byte < 0x20 || byte == 0x7f || (c1_follows && byte >= 0x80 && byte < 0xa0);
        c1_follows = byte == 0xc2;
        if (control && !kept.contains(c))
            c = '?';
    }
}

} // namespace inox
