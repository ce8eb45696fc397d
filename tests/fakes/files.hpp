// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fstream>
#include <sstream>
#include <string>

namespace inox::fakes {

/// All of a file; empty when it cannot be read.
inline std::string slurp(const std::string& path) {
    const std::ifstream file{path};
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

} // namespace inox::fakes
