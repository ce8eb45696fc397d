// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/pasid_attach.hpp"

#include <cerrno>
#include <cstring>

#include "devices/vfio/device.hpp"
#include "devices/vfio/dma/ioas.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/log.hpp"

namespace inox::devices::vfio {
namespace {

std::uint64_t pointer(const void* data) { return reinterpret_cast<std::uint64_t>(data); } // NOLINT: the kernel's form

std::unexpected<Error> no_pasids(const Device& device, const std::string& why, const std::string& hint) {
    return fail(Errc::unsupported, "no PASIDs for " + device.name() + ": " + why, hint);
}

std::string answer(int result) { return std::strerror(-result); }

} // namespace

PasidAttach::PasidAttach(Kernel& kernel, Device& device, unsigned pasid_bits)
    : kernel_{kernel}, device_{device}, iommufd_{static_cast<const Ioas&>(device.dma()).iommufd()},
      ioas_{static_cast<const Ioas&>(device.dma()).id()}, pasid_bits_{pasid_bits} {}

Result<uapi::GetHwInfo> PasidAttach::probe(Kernel& kernel, const Device& device) {
    if (device.backend() != Backend::iommufd)
        return no_pasids(device, "it is assigned by the container interface",
                         "PASIDs need iommufd: Linux 6.15 or newer with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV");
    uapi::GetHwInfo info{};
    info.size = sizeof info;
    info.dev_id = device.iommufd_id();
    if (const int result = kernel.hw_info(static_cast<const Ioas&>(device.dma()).iommufd(), info); result != 0)
        return no_pasids(device, "the kernel does not describe its IOMMU (" + answer(result) + ")",
                         "Linux 6.6 or newer does");
    if (info.out_max_pasid_log2 == 0)
        return no_pasids(device, "device and IOMMU have no PASID width in common",
                         "needs a device with the PASID capability behind an IOMMU in scalable mode, and Linux 6.15");
    if (info.out_data_type != uapi::GetHwInfo::type_intel_vtd)
        return no_pasids(device, "its IOMMU does not walk page tables in x86-64's format for guests",
                         "of Linux's IOMMU drivers only Intel's takes such tables");
    return info;
}

ExtendedCapability PasidAttach::capability(const uapi::GetHwInfo& info) {
    // PCI Express base specification, 7.8.9
    constexpr unsigned id = 0x1b, enable = 1, execute = 2, privileged = 4;
    const unsigned offered =
        ((info.out_capabilities & uapi::GetHwInfo::capability_pasid_exec) != 0 ? execute : 0) |
        ((info.out_capabilities & uapi::GetHwInfo::capability_pasid_privileged) != 0 ? privileged : 0);
    ExtendedCapability out{.id = id, .body = std::vector<std::byte>(4), .writable = std::vector<std::byte>(4)};
    store_le(std::span{out.body}, offered | (info.out_max_pasid_log2 & 0x1fU) << 8);
    store_le(std::span{out.writable}, (enable | offered) << 16);
    return out;
}

Result<std::unique_ptr<PasidAttach>> PasidAttach::create(Kernel& kernel, Device& device) {
    const auto info = TRY(probe(kernel, device));
    std::unique_ptr<PasidAttach> made{new PasidAttach{kernel, device, info.out_max_pasid_log2}};
    TRY_VOID(made->make_parent());
    return made;
}

Result<void> PasidAttach::make_parent() {
    uapi::HwptAlloc alloc{};
    alloc.size = sizeof alloc;
    alloc.flags = uapi::HwptAlloc::flag_nest_parent | uapi::HwptAlloc::flag_pasid;
    alloc.dev_id = device_.iommufd_id();
    alloc.pt_id = ioas_;
    if (const int result = kernel_.hwpt_alloc(iommufd_, alloc); result != 0)
        return no_pasids(device_, "its IOMMU cannot nest page tables (" + answer(result) + ")",
                         "needs VT-d with nested translation, and Linux 6.15 with CONFIG_INTEL_IOMMU_SVM");
    if (const int result = attach_table(alloc.out_hwpt_id, {}); result != 0) {
        (void)kernel_.destroy(iommufd_, alloc.out_hwpt_id);
        return no_pasids(device_, "its DMA cannot move to a table that nests (" + answer(result) + ")",
                         "a group of several devices cannot have PASIDs");
    }
    parent_ = alloc.out_hwpt_id;
    return {};
}

PasidAttach::~PasidAttach() {
    while (!tables_.empty())
        detach(iommu::GuestPasid{tables_.begin()->first});
    if (parent_ == 0)
        return;
    if (const int result = attach_table(ioas_, {}); result != 0)
        log::write(log::Level::warning, "%s cannot be attached to its address space again: %s", device_.name().c_str(),
                   answer(result).c_str());
    (void)kernel_.destroy(iommufd_, parent_);
}

int PasidAttach::attach_table(std::uint32_t table, std::optional<std::uint32_t> pasid) {
    uapi::AttachPageTable attach{};
    attach.argsz = pasid ? sizeof attach : uapi::attach_size_without_pasid;
    attach.flags = pasid ? uapi::AttachPageTable::flag_pasid : 0;
    attach.pt_id = table;
    attach.pasid = pasid.value_or(0);
    return kernel_.attach(device_.fd(), attach);
}

Result<void> PasidAttach::attach(iommu::GuestPasid pasid, const iommu::PageTable& table) {
    std::lock_guard lock{mutex_};
    if (pasid_bits_ < 32 && pasid.raw() >> pasid_bits_ != 0)
        return no_pasids(device_, format("PASID %#x has more than %u bits", pasid.raw(), pasid_bits_), "");
    uapi::VtdFirstStage data{};
    data.flags = (table.privileged ? uapi::VtdFirstStage::supervisor_requests : 0) |
                 (table.write_protect ? uapi::VtdFirstStage::write_protect : 0);
    data.pgtbl_addr = table.root;
    data.addr_width = table.five_levels ? 57 : 48;
    uapi::HwptAlloc alloc{};
    alloc.size = sizeof alloc;
    alloc.flags = uapi::HwptAlloc::flag_pasid;
    alloc.dev_id = device_.iommufd_id();
    alloc.pt_id = parent_;
    alloc.data_type = uapi::HwptAlloc::data_vtd_s1;
    alloc.data_len = sizeof data;
    alloc.data_uptr = pointer(&data);
    if (const int result = kernel_.hwpt_alloc(iommufd_, alloc); result != 0)
        return no_pasids(device_, "the kernel refuses the guest's page table (" + answer(result) + ")", "");
    if (const int result = attach_table(alloc.out_hwpt_id, pasid.raw()); result != 0) {
        (void)kernel_.destroy(iommufd_, alloc.out_hwpt_id);
        return no_pasids(device_, "the kernel does not attach a page table to a PASID (" + answer(result) + ")",
                         "Linux 6.15 or newer does");
    }
    tables_[pasid.raw()] = alloc.out_hwpt_id;
    return {};
}

void PasidAttach::detach(iommu::GuestPasid pasid) noexcept {
    std::lock_guard lock{mutex_};
    const auto it = tables_.find(pasid.raw());
    if (it == tables_.end())
        return;
    uapi::DetachPageTable detach{};
    detach.argsz = sizeof detach;
    detach.flags = uapi::DetachPageTable::flag_pasid;
    detach.pasid = pasid.raw();
    const int detached = kernel_.detach(device_.fd(), detach);
    const int destroyed = kernel_.destroy(iommufd_, it->second);
    if (detached != 0 || destroyed != 0)
        log::write(log::Level::warning, "PASID %#x cannot be detached from %s: %s", pasid.raw(), device_.name().c_str(),
                   answer(detached != 0 ? detached : destroyed).c_str());
    tables_.erase(it);
}

void PasidAttach::invalidate(iommu::GuestPasid pasid, std::optional<Range<Iova>> range) noexcept {
    std::lock_guard lock{mutex_};
    const auto it = tables_.find(pasid.raw());
    if (it == tables_.end())
        return;
    uapi::VtdInvalidateEntry entry{};
    entry.npages = uapi::VtdInvalidateEntry::everything;
    if (range && *range != Range<Iova>::full()) {
        entry.addr = range->start().raw() & ~(page_size - 1);
        entry.npages = (range->last().raw() - entry.addr) / page_size + 1;
    }
    uapi::HwptInvalidate invalidate{};
    invalidate.size = sizeof invalidate;
    invalidate.hwpt_id = it->second;
    invalidate.data_uptr = pointer(&entry);
    invalidate.data_type = uapi::HwptInvalidate::data_vtd_s1;
    invalidate.entry_len = sizeof entry;
    invalidate.entry_num = 1;
    if (const int result = kernel_.hwpt_invalidate(iommufd_, invalidate); result != 0)
        log::write(log::Level::warning, "old translations of PASID %#x on %s cannot be removed: %s", pasid.raw(),
                   device_.name().c_str(), answer(result).c_str());
}

} // namespace inox::devices::vfio
