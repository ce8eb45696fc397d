// SPDX-License-Identifier: Apache-2.0
// Who answers for each byte of an assigned device's configuration space: the device, or inox with a register of its
// own.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "devices/pci/config_space.hpp"

namespace inox::devices::vfio {

/// Immutable once planned.
class ConfigMap {
public:
    explicit ConfigMap(unsigned size) : owned_(size), passed_(size, std::byte{0xff}) {}

    /// inox answers for these bytes; guest writes never reach the device.
    void own(unsigned offset, unsigned size);
    /// Of a register that the device answers for, the guest may change the bits of `mask` only. Not for registers with
    /// bits that a write of one clears: the others are written as they were read.
    void limit_writes(unsigned offset, std::uint16_t mask);

    /// Bytes beyond the end count as inox's.
    [[nodiscard]] bool owned(unsigned offset) const { return offset >= owned_.size() || owned_[offset]; }
    [[nodiscard]] bool all_owned(unsigned offset, std::size_t size) const;
    /// The bits of this byte that a guest's write reaches.
    [[nodiscard]] std::byte passed(unsigned offset) const { return owned(offset) ? std::byte{0} : passed_[offset]; }

private:
    std::vector<bool> owned_;
    std::vector<std::byte> passed_;
};

/// A capability the device does not have, for the guest.
struct ExtendedCapability {
    std::uint16_t id{};
    std::uint8_t version{1};
    std::vector<std::byte> body{};     ///< behind the four header bytes
    std::vector<std::byte> writable{}; ///< mask of its first bytes
};

struct ConfigChoices {
    bool msi{true}; ///< false: hide the capability
    bool msix{true};
    std::span<const ExtendedCapability> synthesised{};
};

/// What inox made of a device's configuration space.
struct ConfigPlan {
    ConfigMap map;
    /// Offsets of the capabilities that the guest sees and inox takes part in.
    std::optional<unsigned> msi{};
    std::optional<unsigned> msix{};
    /// Registers where the guest starts a function level reset, if the function has one: PCI Express device control
    /// (bit 15), advanced features control (bit 0).
    std::optional<unsigned> express_control{};
    std::optional<unsigned> features_control{};
    /// Link status of the device itself, where it has a link. Not what the guest sees.
    std::optional<unsigned> link_status{};
};

/// `device` is the whole space as the host shows it. Lays the header, both capability chains and inox's own registers
/// out in `shadow`, but for the MSI and MSI-X registers and the BARs. unsupported: not an endpoint. Chains that loop or
/// lead nowhere are cut.
Result<ConfigPlan> plan_config(std::span<const std::byte> device, const ConfigChoices& choices,
                               pci::ConfigSpace& shadow);

} // namespace inox::devices::vfio
