// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <regex.h>

#include "vmm/config/config_file.hpp"

namespace inox {

std::optional<std::string> regex_problem(const std::string& text) {
    static constexpr std::size_t longest = 1000; // regcomp(3) may take time and memory without bound
    if (text.size() > longest)
        return "longer than 1000 characters";
    regex_t compiled{};
    if (const int error = ::regcomp(&compiled, text.c_str(), REG_EXTENDED | REG_NOSUB); error != 0) {
        std::array<char, 128> reason{};
        ::regerror(error, &compiled, reason.data(), reason.size());
        return reason.data();
    }
    ::regfree(&compiled);
    return std::nullopt;
}

} // namespace inox
