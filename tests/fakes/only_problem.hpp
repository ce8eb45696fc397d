// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tests/catch.hpp"
#include "vmm/base/error.hpp"

namespace inox::fakes {

/// There is one, and it says what to do.
inline Error only_problem(const std::vector<Error>& found) {
    for (const auto& one : found)
        UNSCOPED_INFO(one.report());
    REQUIRE(found.size() == 1);
    CHECK_FALSE(found[0].hint.empty());
    return found[0];
}

} // namespace inox::fakes
