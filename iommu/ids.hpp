// SPDX-License-Identifier: Apache-2.0
// Identifiers of the address-space core as types: a guest's PASID cannot be passed where the host's is meant.
#pragma once

#include <compare>
#include <cstdint>

namespace inox::iommu {

/// A 32-bit identifier in the space named by `Tag`.
template <class Tag> class Id {
public:
    constexpr Id() = default;
    explicit constexpr Id(std::uint32_t value) : value_{value} {}
    [[nodiscard]] constexpr std::uint32_t raw() const { return value_; }
    constexpr auto operator<=>(const Id&) const = default;

private:
    std::uint32_t value_{};
};

/// A function that does DMA: segment << 16 | bus << 8 | slot << 3 | function, as VIOT and Linux count them.
using EndpointId = Id<struct EndpointTag>;
/// The guest's number of a virtio-iommu domain.
using DomainId = Id<struct DomainTag>;
/// PASID as the guest writes it; 20 bits.
using GuestPasid = Id<struct GuestPasidTag>;
/// PASID as the IOASID core allocated it, system-wide; 20 bits, 0 is none.
using HostPasid = Id<struct HostPasidTag>;

/// An endpoint on PCI segment 0, bus 0.
constexpr EndpointId pci_endpoint(unsigned slot, unsigned function) { return EndpointId{slot << 3U | function}; }

} // namespace inox::iommu
