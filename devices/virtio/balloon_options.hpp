// SPDX-License-Identifier: Apache-2.0
// What is asked of a balloon.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace inox::devices::virtio {

struct BalloonOptions {
    std::string id{"balloon0"}; ///< for people
    std::uint64_t target{0};    ///< bytes the guest is to give up; whole MiB, less than its memory
    bool deflate_on_oom{false}; ///< the guest may take memory back rather than kill a process
    bool free_page_reporting{false};
    bool free_page_hinting{false};
    std::chrono::seconds statistics_interval{0}; ///< 0: no statistics, for ever
    bool operator==(const BalloonOptions&) const = default;
};

} // namespace inox::devices::virtio
