// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tests/catch.hpp"
#include "vmm/base/error.hpp"

namespace fakes {

/// There is one, and it says what to do.
inline vmm::Error only_problem(const std::vector<vmm::Error>& found) {
    for (const auto& one : found)
        UNSCOPED_INFO(one.report());
    REQUIRE(found.size() == 1);
    CHECK_FALSE(found[0].hint.empty());
    return found[0];
}

} // namespace fakes
