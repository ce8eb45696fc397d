// SPDX-License-Identifier: Apache-2.0
// How often this process asked for what nothing names, by what it asked for; and how often its Door did not answer.
#pragma once

#include <atomic>
#include <cstdint>

namespace inox::outside {

/// Any thread.
struct Counters {
    std::atomic<std::uint64_t> files{0};    ///< opened, made, replaced, removed
    std::atomic<std::uint64_t> sockets{0};  ///< bound, connected
    std::atomic<std::uint64_t> taps{0};     ///< attached to
    std::atomic<std::uint64_t> programs{0}; ///< started
    std::atomic<std::uint64_t> unanswered{0};
};

inline Counters& counters() noexcept {
    static Counters all;
    return all;
}

} // namespace inox::outside
