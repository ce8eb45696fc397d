// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/tables/rule.hpp"

#include <sstream>

namespace inox::confine {

Rules calls(std::string_view names) {
    Rules out;
    std::istringstream words{std::string{names}};
    for (std::string name; words >> name;)
        out.push_back({name});
    return out;
}

Rules one_of(const char* call, unsigned argument, std::initializer_list<std::uint64_t> values) {
    Rules out;
    for (const auto value : values)
        out.push_back({call, {is(argument, value)}});
    return out;
}

Rules operator+(Rules left, const Rules& right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}

} // namespace inox::confine
