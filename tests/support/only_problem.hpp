// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tests/catch.hpp"
#include "vmm/base/error.hpp"

namespace inox::tests {

/// There is one, and it says what to do.
Error only_problem(const std::vector<Error>& found);

} // namespace inox::tests
