// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_file.hpp"
#include "vmm/config/line_pattern.hpp"

namespace inox {

std::optional<std::string> regex_problem(const std::string& text) {
    if (auto pattern = LinePattern::compile(text); !pattern)
        return std::move(pattern).error();
    return std::nullopt;
}

} // namespace inox
