// SPDX-License-Identifier: Apache-2.0
// The host address space of one assigned endpoint, as the core fills it. Implementations: the legacy VFIO container,
// iommufd's IOAS, and the recording fake of the tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/address.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/range.hpp"
#include "vmm/memory/dma_memory.hpp"

namespace inox::iommu {

enum class ReservedKind : std::uint8_t {
    reserved, ///< the host uses it
    msi,      ///< writes there are interrupts
    direct,   ///< the host keeps it mapped 1:1 for firmware
};

/// IOVA that may not be mapped for an endpoint (virtio 1.3, 5.13.6.8.2).
struct ReservedRegion {
    Range<Iova> range;
    ReservedKind kind{ReservedKind::reserved};
    bool operator==(const ReservedRegion&) const = default;
};

/// Calls are serialised by the owner. After a call returned, the device's next DMA sees its effect.
class DmaMapper {
public:
    DmaMapper() = default;
    DmaMapper(const DmaMapper&) = delete;
    DmaMapper& operator=(const DmaMapper&) = delete;
    virtual ~DmaMapper() = default;

    /// The range becomes `host`, which is as long. Nothing is mapped on an error: already_exists (overlap), no_resource
    /// (locked memory or number of mappings), config_value (reserved region or alignment), host_error.
    virtual Result<void> map(Range<Iova> range, std::span<std::byte> host, Access access) = 0;
    /// Removes the mappings inside the range; holes are fine. A range that cuts a mapping is refused whole.
    virtual Result<void> unmap(Range<Iova> range) = 0;

    /// Sorted, not overlapping; fixed while the mapper lives.
    [[nodiscard]] virtual std::span<const ReservedRegion> reserved() const = 0;
    /// Usable IOVA, inclusive; sorted.
    [[nodiscard]] virtual std::span<const Range<Iova>> apertures() const = 0;
    /// Bit n: pages of 2^n bytes can be mapped.
    [[nodiscard]] virtual std::uint64_t page_sizes() const = 0;
};

} // namespace inox::iommu
