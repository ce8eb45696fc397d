// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/config/kind.hpp"

namespace inox {

/// A virtio-console beside the serial port: hvc0 in Linux.
struct ConsoleConfig {
    std::string path{}; ///< gets the guest's output, appended; empty: the terminal is on it, instead of the serial port
    std::string id{"console0"};
    bool operator==(const ConsoleConfig&) const = default;
};

template <> struct Kind<ConsoleConfig> : UsualKind {
    static constexpr std::string_view name = "console";
    static constexpr std::string_view section = "console";
    static constexpr std::string_view key = "/path";
    static constexpr bool single = true;
    static constexpr bool plugged = false;
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, ConsoleConfig& options);
    static std::vector<UsedPath> paths(const ConsoleConfig& console) { return {{console.path, UsedPath::Use::output}}; }
};

} // namespace inox
