// SPDX-License-Identifier: Apache-2.0
// The tables of registers in docs/guest-abi.md, to hold against the code.
#pragma once

#include <cstdint>
#include <regex>
#include <string>
#include <vector>

#include "tests/support/files.hpp"

namespace inox::tests {

struct RegisterRow {
    std::uint64_t offset{};
    std::string name{};
    unsigned bytes{};  ///< of one; 0: the table does not say
    unsigned stride{}; ///< between several; 0: there is one
    std::string access{};
};

/// Of the section with this heading.
std::vector<RegisterRow> register_table(const std::string& heading);

} // namespace inox::tests
