// SPDX-License-Identifier: Apache-2.0
#include "tests/support/only_problem.hpp"

namespace inox::tests {

Error only_problem(const std::vector<Error>& found) {
    for (const auto& one : found)
        UNSCOPED_INFO(one.report());
    REQUIRE(found.size() == 1);
    CHECK_FALSE(found[0].hint.empty());
    return found[0];
}

} // namespace inox::tests
