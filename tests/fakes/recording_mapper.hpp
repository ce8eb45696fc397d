// SPDX-License-Identifier: Apache-2.0
// An assigned endpoint's host address space that remembers: strict as a VFIO container is, and it fails when told to.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "iommu/dma_mapper.hpp"

namespace inox::fakes {

class RecordingMapper final : public iommu::DmaMapper {
public:
    using IovaRange = Range<Iova>;
    struct Held {
        IovaRange range;
        std::byte* host;
        Access access;
        bool operator==(const Held&) const = default;
    };

    // What it tells.
    std::vector<iommu::ReservedRegion> reserved_regions{};
    std::vector<IovaRange> usable{IovaRange::full()};
    std::uint64_t sizes{~std::uint64_t{0xfff}};

    // What it does.
    std::function<bool()> fails{}; ///< asked at each call
    Errc failure{Errc::host_error};
    std::size_t most{65535}; ///< mappings, as dma_entry_limit

    // What it did.
    unsigned maps{0};
    unsigned unmaps{0};
    std::map<std::uint64_t, Held> held{}; ///< by first address
    std::function<void()> on_call{};

    Result<void> map(IovaRange range, std::span<std::byte> host, Access access) override;

    Result<void> unmap(IovaRange range) override;

    [[nodiscard]] std::span<const iommu::ReservedRegion> reserved() const override { return reserved_regions; }
    [[nodiscard]] std::span<const IovaRange> apertures() const override { return usable; }
    [[nodiscard]] std::uint64_t page_sizes() const override { return sizes; }
};

} // namespace inox::fakes
