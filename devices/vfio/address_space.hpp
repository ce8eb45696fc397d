// SPDX-License-Identifier: Apache-2.0
// The host address space of one IOMMU group: what its devices reach by DMA. Two kinds of the kernel's, one behaviour.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "iommu/dma_mapper.hpp"
#include "iommu/registered_memory.hpp"
#include "vmm/base/range.hpp"

namespace devices::vfio {

/// What may be mapped, as read once after the group was attached.
struct Window {
    std::vector<vmm::Range<vmm::Iova>> apertures{}; ///< sorted
    std::vector<iommu::ReservedRegion> reserved{};  ///< sorted, not overlapping
    std::uint64_t page_sizes{};                     ///< bit n: 2^n bytes
};

/// DmaMapper over the kernel. Keeps its own list of mappings: so an unmap that would cut a mapping is refused whole,
/// whatever the kernel would do, and the kernel is asked for nothing that is not there. The last page of the 64-bit
/// space cannot be mapped: its end has no number in the kernel's terms.
class AddressSpace : public iommu::DmaMapper {
public:
    vmm::Result<void> map(vmm::Range<vmm::Iova> range, std::span<std::byte> host, vmm::Access access) final;
    vmm::Result<void> unmap(vmm::Range<vmm::Iova> range) final;

    [[nodiscard]] std::span<const iommu::ReservedRegion> reserved() const final { return window_.reserved; }
    [[nodiscard]] std::span<const vmm::Range<vmm::Iova>> apertures() const final { return window_.apertures; }
    [[nodiscard]] std::uint64_t page_sizes() const final { return window_.page_sizes; }

    [[nodiscard]] std::size_t mapping_count() const { return mappings_.size(); }
    /// "group 12".
    [[nodiscard]] const std::string& name() const { return name_; }

protected:
    struct Mapped {
        std::span<std::byte> host;
    };
    /// `memory` outlives the address space and knows every byte that will be mapped.
    AddressSpace(std::string name, iommu::RegisteredMemory& memory) : name_{std::move(name)}, memory_{memory} {}
    /// The kernel drops the mappings with its object; this forgets their uses of memory.
    ~AddressSpace() override;
    void set_window(Window window) { window_ = std::move(window); }
    [[nodiscard]] const vmm::RangeMap<vmm::Iova, Mapped>& mappings() const { return mappings_; }

    // The kernel's part: base and size, 0 or a negative errno.
    virtual int kernel_map(std::uint64_t iova, std::uint64_t size, std::span<std::byte> host, vmm::Access access) = 0;
    virtual int kernel_unmap(std::uint64_t iova, std::uint64_t size) = 0;
    /// Everything at once; -ENOTTY when this kernel has no way to say that.
    virtual int kernel_unmap_all() = 0;
    /// An error when one more mapping of `size` bytes cannot succeed, with the number that is needed.
    [[nodiscard]] virtual vmm::Result<void> check_budget(std::uint64_t size) const = 0;

private:
    [[nodiscard]] vmm::Result<void> check_map(vmm::Range<vmm::Iova> range, std::span<std::byte> host) const;
    [[nodiscard]] vmm::Result<void> unmap_everything();
    [[nodiscard]] int unmap_one_by_one(vmm::Range<vmm::Iova> range);
    void forget(vmm::Range<vmm::Iova> range);

    std::string name_;
    iommu::RegisteredMemory& memory_;
    Window window_{};
    vmm::RangeMap<vmm::Iova, Mapped> mappings_{};
};

} // namespace devices::vfio
