// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "devices/vfio/options.hpp"
#include "vmm/config/kind.hpp"

namespace inox {

/// A PCI device of the host that the guest gets.
struct VfioConfig {
    devices::vfio::OpenOptions open{};
    bool rom{true};                     ///< the guest sees its expansion ROM
    bool relocate_msix{false};          ///< the MSI-X table gets a BAR of its own
    std::optional<unsigned> msix_bar{}; ///< which; nullopt: the first that is free
    bool operator==(const VfioConfig&) const = default;
};

template <> struct Kind<VfioConfig> : UsualKind {
    static constexpr std::string_view name = "vfio";
    static constexpr std::string_view section = "vfio";
    static constexpr std::string_view id_key = "id";
    static constexpr bool pci_only = true;
    static auto& id(auto& device) { return device.open.id; }
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, VfioConfig& options);
    static void check(const Config& config, std::vector<Error>& problems);
};

} // namespace inox
