// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/passt_words.hpp"

#include <algorithm>
#include <string_view>

namespace inox::confine {
namespace {

constexpr std::string_view alone[] = {"--foreground", "--quiet", "--stderr", "--ipv4-only", "--no-map-gw"};
/// The value is what is named, or, for an empty one, numbers and addresses.
struct Valued {
    std::string_view option;
    std::string_view value;
};
constexpr Valued valued[] = {{"--fd", "3"},       {"--mtu", ""},       {"--mac-addr", ""},        {"--address", ""},
                             {"--netmask", ""},   {"--gateway", ""},   {"--interface", "lo"},     {"--dns", ""},
                             {"--tcp-ports", ""}, {"--udp-ports", ""}, {"--runas", "65534:65534"}};

bool is_plain_value(std::string_view text) {
    return text == "none" ||
           (!text.empty() && text.size() <= 80 && text.find_first_not_of("0123456789abcdefABCDEF.:/") == text.npos &&
            !text.starts_with('/'));
}

} // namespace

bool are_passt_words(std::span<const std::string> words) {
    static constexpr std::size_t most = 512;
    if (words.size() > most || std::ranges::find(words, "--foreground") == words.end())
        return false;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (std::ranges::find(alone, words[i]) != std::end(alone))
            continue;
        const auto* const option = std::ranges::find(valued, words[i], &Valued::option);
        if (option == std::end(valued) || ++i == words.size())
            return false;
        if (option->value.empty() ? !is_plain_value(words[i]) : words[i] != option->value)
            return false;
    }
    return true;
}

} // namespace inox::confine
