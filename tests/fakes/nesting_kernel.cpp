// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/nesting_kernel.hpp"

#include <cstring>

namespace inox::fakes {

int NestingKernel::hw_info(int /*iommufd*/, devices::vfio::uapi::GetHwInfo& info) {
    info.out_capabilities = capabilities;
    info.out_data_type = type;
    info.out_max_pasid_log2 = static_cast<std::uint8_t>(bits);
    return info_error;
}

int NestingKernel::hwpt_alloc(int /*iommufd*/, devices::vfio::uapi::HwptAlloc& alloc) {
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

int NestingKernel::attach(int device, devices::vfio::uapi::AttachPageTable& attach) {
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

int NestingKernel::detach(int device, devices::vfio::uapi::DetachPageTable& detach) {
    if ((detach.flags & devices::vfio::uapi::DetachPageTable::flag_pasid) != 0)
        return by_pasid.erase(detach.pasid) == 1 ? 0 : -ENOENT;
    return VfioKernel::detach(device, detach);
}

int NestingKernel::destroy(int iommufd, std::uint32_t id) {
    if (id < first_table)
        return VfioKernel::destroy(iommufd, id);
    for (const auto& [pasid, table] : by_pasid)
        if (table == id)
            return -EBUSY;
    return id == own ? -EBUSY : tables.erase(id) == 1 ? 0 : -ENOENT;
}

int NestingKernel::hwpt_invalidate(int /*iommufd*/, devices::vfio::uapi::HwptInvalidate& invalidate) {
    devices::vfio::uapi::VtdInvalidateEntry entry{};
    std::memcpy(&entry, reinterpret_cast<const void*>(invalidate.data_uptr), sizeof entry); // NOLINT
    invalidated.emplace_back(invalidate.hwpt_id, entry);
    return 0;
}

bool NestingKernel::for_pasids(std::uint32_t table) const {
    const auto found = tables.find(table);
    return found != tables.end() && (found->second.flags & devices::vfio::uapi::HwptAlloc::flag_pasid) != 0;
}

} // namespace inox::fakes
