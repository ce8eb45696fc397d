// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "iommu/limits.hpp"
#include "vmm/config/kind.hpp"

namespace inox {

/// A virtio-iommu with every other PCI device behind it.
struct IommuConfig {
    /// Devices that the guest has put into no domain reach its memory. Unset: they do, unless devices are assigned.
    std::optional<bool> bypass{};
    iommu::Limits limits{};
    std::string id{"iommu"};
    bool operator==(const IommuConfig&) const = default;
};

template <> struct Kind<IommuConfig> : UsualKind {
    static constexpr std::string_view name = "iommu";
    static constexpr std::string_view section = "iommu";
    static constexpr bool single = true;
    static constexpr bool pci_only = true;
    static constexpr bool plugged = false;
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, IommuConfig& options);
    static void check(const Config& config, std::vector<Error>& problems);
};

} // namespace inox
