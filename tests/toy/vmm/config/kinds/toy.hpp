// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "vmm/config/kind.hpp"

namespace inox {

/// Another source of random numbers.
struct ToyConfig {
    std::string id{};
    std::string colour{};
    bool operator==(const ToyConfig&) const = default;
};

template <> struct Kind<ToyConfig> : UsualKind {
    static constexpr std::string_view name = "toy";
    static constexpr std::string_view section = "toys";
    static constexpr std::string_view key = "/colour";
    static constexpr std::string_view id_key = "id";
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, ToyConfig& options);
    static void check(const Config& config, std::vector<Error>& problems);
};

} // namespace inox
