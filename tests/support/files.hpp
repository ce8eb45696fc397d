// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fstream>
#include <sstream>
#include <string>

namespace inox::tests {

/// All of a file; empty when it cannot be read.
std::string slurp(const std::string& path);

} // namespace inox::tests
