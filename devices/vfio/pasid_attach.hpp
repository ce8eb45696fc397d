// SPDX-License-Identifier: Apache-2.0
// PASIDs of an assigned device: the guest's page tables become first-stage tables of the host's IOMMU, nested on what
// maps the guest's RAM. Needs iommufd (Linux 6.15 for PASIDs of VFIO devices), VT-d in scalable mode, and a device with
// PASIDs; where one is missing, the error says which.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "devices/vfio/config_map.hpp"
#include "devices/vfio/kernel.hpp"
#include "iommu/pasid/pasid_service.hpp"

namespace inox::devices::vfio {

class Device;

/// Thread-safe.
class PasidAttach final : public iommu::PasidAttacher {
public:
    /// What kernel, device and IOMMU have for this. Changes nothing. unsupported, with the reason.
    static Result<uapi::GetHwInfo> probe(Kernel& kernel, const Device& device);
    /// The capability a guest sees then: the host keeps the device's own to itself, and has switched it on.
    static ExtendedCapability capability(const uapi::GetHwInfo& info);
    /// Moves the device's own DMA to the parent table, which maps the same. The device must stay open longer.
    /// unsupported, with the reason.
    static Result<std::unique_ptr<PasidAttach>> create(Kernel& kernel, Device& device);
    /// Detaches all, and gives the device its address space back.
    ~PasidAttach() override;

    Result<void> attach(iommu::GuestPasid pasid, const iommu::PageTable& table) override;
    void detach(iommu::GuestPasid pasid) noexcept override;
    void invalidate(iommu::GuestPasid pasid, std::optional<Range<Iova>> range) noexcept override;

    /// Width the device and its IOMMU agree on; larger numbers cannot be attached.
    [[nodiscard]] unsigned pasid_bits() const { return pasid_bits_; }

private:
    PasidAttach(Kernel& kernel, Device& device, unsigned pasid_bits);
    Result<void> make_parent();
    int attach_table(std::uint32_t table, std::optional<std::uint32_t> pasid);

    Kernel& kernel_;
    Device& device_;
    int iommufd_;
    std::uint32_t ioas_;
    unsigned pasid_bits_;
    std::uint32_t parent_{0};
    std::mutex mutex_;
    std::map<std::uint32_t, std::uint32_t> tables_{}; // guarded by mutex_: first-stage table by PASID
};

} // namespace inox::devices::vfio
