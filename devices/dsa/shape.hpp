// SPDX-License-Identifier: Apache-2.0
// How large an accelerator is.
#pragma once

namespace inox::devices::dsa {

inline constexpr unsigned max_queues = 8;
inline constexpr unsigned max_engines = 4;
inline constexpr unsigned max_entries = 1024;

struct Shape {
    unsigned queues{2};   ///< 1..max_queues
    unsigned entries{64}; ///< of all queues together; queues..max_entries
    unsigned engines{1};  ///< and groups; 1..max_engines
    bool operator==(const Shape&) const = default;
};

} // namespace inox::devices::dsa
