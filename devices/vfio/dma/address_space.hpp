// SPDX-License-Identifier: Apache-2.0
// The host address space of one IOMMU group: what its devices reach by DMA. Two kinds of the kernel's, one behaviour.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/vfio/dma/window.hpp"
#include "iommu/dma_mapper.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/range.hpp"

namespace inox::devices::vfio {

struct DmaResources;

/// DmaMapper over the kernel. Keeps its own list of mappings: so an unmap that would cut a mapping is refused whole,
/// whatever the kernel would do, and the kernel is asked for nothing that is not there. The last page of the 64-bit
/// space cannot be mapped: its end has no number in the kernel's terms.
class AddressSpace : public iommu::DmaMapper {
public:
    /// The kernel drops the mappings with its object; this forgets their uses of memory.
    ~AddressSpace() override;

    Result<void> map(IovaRange range, std::span<std::byte> host, Access access) final;
    Result<void> unmap(IovaRange range) final;

    // map() in steps, so that the kernel's part, which takes long when it pins much, can run beside the loop.
    /// Checks and notes the mapping as map() does; the kernel does not know of it yet.
    Result<void> reserve(IovaRange range, std::span<std::byte> host);
    /// The kernel's part. Any thread, as long as nobody else calls. The note stays, also after an error.
    Result<void> pin(IovaRange range, std::span<std::byte> host, Access access);
    Result<void> unpin(IovaRange range);
    /// Takes the note back: the kernel has no such mapping.
    void cancel(IovaRange range) { forget({&range, 1}); }

    [[nodiscard]] std::span<const iommu::ReservedRegion> reserved() const final { return window_.reserved; }
    [[nodiscard]] std::span<const IovaRange> apertures() const final { return window_.apertures; }
    [[nodiscard]] std::uint64_t page_sizes() const final { return window_.page_sizes; }

    [[nodiscard]] std::size_t mapping_count() const { return mappings_.size(); }
    /// Whether other devices' BARs can be mapped in it.
    [[nodiscard]] virtual bool maps_bars() const = 0;
    /// "IOMMU group 12".
    [[nodiscard]] const std::string& name() const { return name_; }

protected:
    AddressSpace(std::string name, DmaResources& resources) : name_{std::move(name)}, resources_{resources} {}
    void set_window(Window window) { window_ = std::move(window); }

    // The kernel's part: base and size, 0 or a negative errno.
    virtual int kernel_map(std::uint64_t iova, std::uint64_t size, std::span<std::byte> host, Access access) = 0;
    virtual int kernel_unmap(std::uint64_t iova, std::uint64_t size) = 0;
    /// Everything at once; -ENOTTY when this kernel has no way to say that.
    virtual int kernel_unmap_all() = 0;
    /// How many mappings the kernel takes in all; nullopt: as many as there is memory for.
    [[nodiscard]] virtual std::optional<std::uint64_t> mapping_limit() const = 0;

private:
    struct Mapped {
        std::span<std::byte> host;
    };
    [[nodiscard]] Result<void> check_map(IovaRange range, std::span<std::byte> host) const;
    [[nodiscard]] Result<void> check_budget(std::uint64_t size) const;
    [[nodiscard]] std::vector<IovaRange> inside(IovaRange range) const;
    [[nodiscard]] int unmap_everything();
    [[nodiscard]] int unmap_one_by_one();
    void forget(std::span<const IovaRange> ranges);

    std::string name_;
    DmaResources& resources_;
    Window window_{};
    RangeMap<Iova, Mapped> mappings_{};
};

} // namespace inox::devices::vfio
