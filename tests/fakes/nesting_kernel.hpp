// SPDX-License-Identifier: Apache-2.0
// Made-up iommufd with VT-d's nested translation and PASIDs.
#pragma once

#include <cstring>
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

    int hw_info(int /*iommufd*/, devices::vfio::uapi::GetHwInfo& info) override {
        info.out_capabilities = capabilities;
        info.out_data_type = type;
        info.out_max_pasid_log2 = static_cast<std::uint8_t>(bits);
        return info_error;
    }
    int hwpt_alloc(int /*iommufd*/, devices::vfio::uapi::HwptAlloc& alloc) override {
        if (alloc_error != 0)
            return alloc_error;
        using Alloc = devices::vfio::uapi::HwptAlloc;
        const bool nested = alloc.data_type == Alloc::data_vtd_s1;
        if (nested && (!tables.contains(alloc.pt_id) || (tables.at(alloc.pt_id).flags & Alloc::flag_nest_parent) == 0))
            return -EINVAL;
        Table table{alloc.pt_id, alloc.flags, {}};
        if (nested)
            std::memcpy(&table.data, reinterpret_cast<const void*>(alloc.data_uptr), sizeof table.data); // NOLINT
        alloc.out_hwpt_id = first_table + static_cast<std::uint32_t>(made_++);
        tables[alloc.out_hwpt_id] = table;
        return 0;
    }
    int attach(int device, devices::vfio::uapi::AttachPageTable& attach) override {
        if ((attach.flags & devices::vfio::uapi::AttachPageTable::flag_pasid) != 0) {
            if (pasid_error != 0)
                return pasid_error;
            if (!for_pasids(attach.pt_id) || !for_pasids(own))
                return -EINVAL;
            by_pasid[attach.pasid] = attach.pt_id;
            return 0;
        }
        if (attach.pt_id >= first_table && attach_error != 0)
            return attach_error;
        own = attach.pt_id;
        return attach.pt_id >= first_table ? 0 : VfioKernel::attach(device, attach);
    }
    int detach(int device, devices::vfio::uapi::DetachPageTable& detach) override {
        if ((detach.flags & devices::vfio::uapi::DetachPageTable::flag_pasid) != 0)
            return by_pasid.erase(detach.pasid) == 1 ? 0 : -ENOENT;
        return VfioKernel::detach(device, detach);
    }
    int destroy(int iommufd, std::uint32_t id) override {
        if (id < first_table)
            return VfioKernel::destroy(iommufd, id);
        for (const auto& [pasid, table] : by_pasid)
            if (table == id)
                return -EBUSY;
        return id == own ? -EBUSY : tables.erase(id) == 1 ? 0 : -ENOENT;
    }
    int hwpt_invalidate(int /*iommufd*/, devices::vfio::uapi::HwptInvalidate& invalidate) override {
        devices::vfio::uapi::VtdInvalidateEntry entry{};
        std::memcpy(&entry, reinterpret_cast<const void*>(invalidate.data_uptr), sizeof entry); // NOLINT
        invalidated.emplace_back(invalidate.hwpt_id, entry);
        return 0;
    }

private:
    /// A device that uses PASIDs has tables that were made for them only, also for its DMA without PASID.
    [[nodiscard]] bool for_pasids(std::uint32_t table) const {
        const auto found = tables.find(table);
        return found != tables.end() && (found->second.flags & devices::vfio::uapi::HwptAlloc::flag_pasid) != 0;
    }
    int made_{0};
};

} // namespace inox::fakes
