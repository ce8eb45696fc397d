// SPDX-License-Identifier: Apache-2.0
// The kernel's newer interface: an I/O address space of iommufd, to which devices opened by their own files attach.
#pragma once

#include <memory>
#include <string>

#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/kernel.hpp"

namespace inox::devices::vfio {

class Ioas final : public AddressSpace {
public:
    /// Empty and without a device.
    static Result<std::shared_ptr<Ioas>> create(Kernel& kernel, DmaResources& resources, std::string name,
                                                std::shared_ptr<UniqueFd> iommufd);
    /// Devices detach first.
    ~Ioas() override;

    /// Attaches a device that is bound to the iommufd. Each narrows what may be mapped: the window is read again.
    /// reserved_conflict when the device may not do DMA to what is mapped already. All devices of a group go to the
    /// same address space.
    Result<void> attach(int device, std::span<const ReservedLine> labels);
    void detach(int device);

    [[nodiscard]] std::uint32_t id() const { return id_; }
    [[nodiscard]] int iommufd() const { return iommufd_->get(); }

private:
    Ioas(Kernel& kernel, DmaResources& resources, std::string name, std::shared_ptr<UniqueFd> iommufd,
         std::uint32_t id);
    Result<void> read_window(std::span<const ReservedLine> labels);
    int kernel_map(std::uint64_t iova, std::uint64_t size, std::span<std::byte> host, Access access) override;
    int kernel_unmap(std::uint64_t iova, std::uint64_t size) override;
    int kernel_unmap_all() override;
    [[nodiscard]] std::optional<std::uint64_t> mapping_limit() const override { return std::nullopt; }
    [[nodiscard]] bool maps_bars() const override { return false; } // EFAULT on every kernel: they are no pages

    Kernel& kernel_;
    std::shared_ptr<UniqueFd> iommufd_; ///< shared by all address spaces of the machine
    std::uint32_t id_;
};

} // namespace inox::devices::vfio
