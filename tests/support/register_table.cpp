// SPDX-License-Identifier: Apache-2.0
#include "tests/support/register_table.hpp"

namespace inox::tests {

std::vector<RegisterRow> register_table(const std::string& heading) {
    const auto text = slurp(std::string{INOX_SOURCE_DIR} + "/docs/guest-abi.md");
    const auto from = text.find("\n## " + heading + "\n");
    std::vector<RegisterRow> rows;
    if (from == std::string::npos)
        return rows;
    const auto section = text.substr(from + 1, text.find("\n## ", from + 1) - from);
    const std::regex row{R"(\| ([0-9a-f]{3,4}) \| (\w+) \| (?:(\d+):0(?:, ([0-9a-f]+) apart)?)? *\| ([^|]+) \|)"};
    for (std::sregex_iterator it{section.begin(), section.end(), row}, end; it != end; ++it) {
        const auto& match = *it;
        const auto number = [&](unsigned group, int base) {
            return match[group].matched ? static_cast<unsigned>(std::stoul(match[group], nullptr, base)) : 0U;
        };
        rows.push_back(
            {number(1, 16), match[2], match[3].matched ? (number(3, 10) + 1) / 8 : 0, number(4, 16), match[5]});
    }
    return rows;
}

} // namespace inox::tests
