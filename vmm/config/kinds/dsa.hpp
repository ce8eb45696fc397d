// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/dsa/shape.hpp"
#include "vmm/config/kind.hpp"

namespace inox {

/// A virtual data-streaming accelerator, and with it PASIDs and ENQCMD.
struct DsaConfig {
    std::string id{"dsa0"};
    devices::dsa::Shape shape{};
    std::string forward{}; ///< device file of a host work queue that does the copies; empty: the CPU
    bool operator==(const DsaConfig&) const = default;
};

template <> struct Kind<DsaConfig> : UsualKind {
    static constexpr std::string_view name = "dsa";
    static constexpr std::string_view section = "dsa";
    static constexpr std::string_view key = "/forward";
    static constexpr bool single = true;
    static constexpr bool pci_only = true;
    static constexpr bool plugged = false;
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, DsaConfig& options);
    static void check(const Config& config, std::vector<Error>& problems);
};

} // namespace inox
