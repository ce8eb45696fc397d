// SPDX-License-Identifier: Apache-2.0
// The address spaces a device works in by PASID, as the device sees them.
#pragma once

#include <memory>
#include <optional>

#include "iommu/ids.hpp"
#include "vmm/memory/dma_memory.hpp"

namespace inox::devices::dsa {

/// A reference to a host PASID: while it lives, the number is not given to anybody else. When the guest frees or
/// unbinds the PASID, memory() stays callable and grants nothing. Thread-safe.
class Space {
public:
    Space() = default;
    Space(const Space&) = delete;
    Space& operator=(const Space&) = delete;
    virtual ~Space() = default;
    [[nodiscard]] virtual iommu::HostPasid pasid() const noexcept = 0;
    /// What this device reaches, with supervisor rights or without.
    [[nodiscard]] virtual const DmaMemory& memory(bool privileged) const noexcept = 0;
};

/// Thread-safe. The device may call it, and drop a Space, with its own locks held.
class Spaces {
public:
    Spaces() = default;
    Spaces(const Spaces&) = delete;
    Spaces& operator=(const Spaces&) = delete;
    virtual ~Spaces() = default;
    /// Null when the PASID is not allocated to this guest, or not bound for this device.
    [[nodiscard]] virtual std::shared_ptr<Space> open(iommu::GuestPasid pasid) noexcept = 0;
    [[nodiscard]] virtual std::shared_ptr<Space> open(iommu::HostPasid pasid) noexcept = 0;
    /// How this guest names a PASID of its own, also while it is being freed. For what the guest gets to see: the
    /// host's number is not.
    [[nodiscard]] virtual std::optional<iommu::GuestPasid> guest_of(iommu::HostPasid pasid) noexcept = 0;
};

} // namespace inox::devices::dsa
