// SPDX-License-Identifier: Apache-2.0
#include "tests/support/files.hpp"

namespace inox::tests {

std::string slurp(const std::string& path) {
    const std::ifstream file{path};
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

} // namespace inox::tests
