// SPDX-License-Identifier: Apache-2.0
// A guest's rates as people watch them: `inox ctl top`. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox::api {

/// What the API said at one time.
struct TopSample {
    struct Exit {
        std::string what; ///< reason, access, address and place, in columns
        std::uint64_t count{};
    };
    std::chrono::steady_clock::time_point at{};
    std::string title; ///< id and state
    std::uint64_t memory{};
    std::optional<std::uint64_t> resident{}; ///< of the whole process; bytes
    long pid{};
    std::uint64_t exits{};
    std::vector<Exit> places{};
    std::map<std::string, std::uint64_t> counters{}; ///< "block root", a tab, "read_bytes"
};

/// From the bodies of /inox/status, /inox/exits and /inox/metrics. host_error when one is none.
Result<TopSample> top_sample(std::string_view status, std::string_view exits, std::string_view metrics,
                             std::chrono::steady_clock::time_point at);

struct TopSize {
    std::size_t rows{1000};
    std::size_t columns{1000};
};
/// What happened between two samples, as lines that end with a newline and hold no control character.
std::string top_frame(const TopSample& before, const TopSample& now, TopSize size = {});

} // namespace inox::api
