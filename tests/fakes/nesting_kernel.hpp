// SPDX-License-Identifier: Apache-2.0
// Made-up iommufd with VT-d's nested translation and PASIDs.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "devices/vfio/iommufd_uapi.hpp"
#include "tests/fakes/vfio_kernel.hpp"

namespace inox::fakes {

/// A kernel with VT-d's nesting and PASIDs.
class NestingKernel final : public fakes::VfioKernel {
public:
    struct Table {
        std::uint32_t parent;
        std::uint32_t flags;
        devices::vfio::uapi::VtdFirstStage data;
    };
    static constexpr std::uint32_t first_table = 1000;

    int info_error{0}, alloc_error{0}, attach_error{0}, pasid_error{0};
    unsigned bits{20};
    std::uint64_t capabilities{devices::vfio::uapi::GetHwInfo::capability_pasid_privileged};
    std::uint32_t type{devices::vfio::uapi::GetHwInfo::type_intel_vtd};
    std::map<std::uint32_t, Table> tables{};
    std::uint32_t own{0}; ///< what the device's DMA without PASID goes through
    std::map<std::uint32_t, std::uint32_t> by_pasid{};
    std::vector<std::pair<std::uint32_t, devices::vfio::uapi::VtdInvalidateEntry>> invalidated{};

    int hw_info(int /*iommufd*/, devices::vfio::uapi::GetHwInfo& info) override;
    int hwpt_alloc(int /*iommufd*/, devices::vfio::uapi::HwptAlloc& alloc) override;
    int attach(int device, devices::vfio::uapi::AttachPageTable& attach) override;
    int detach(int device, devices::vfio::uapi::DetachPageTable& detach) override;
    int destroy(int iommufd, std::uint32_t id) override;
    int hwpt_invalidate(int /*iommufd*/, devices::vfio::uapi::HwptInvalidate& invalidate) override;

private:
    /// A device that uses PASIDs has tables that were made for them only, also for its DMA without PASID.
    [[nodiscard]] bool for_pasids(std::uint32_t table) const;
    int made_{0};
};

} // namespace inox::fakes
