// SPDX-License-Identifier: Apache-2.0
// Bus resets, device files and iommufd.
#include "tests/fakes/vfio_kernel.hpp"

#include <algorithm>
#include <cstring>

namespace inox::fakes {

int VfioKernel::hot_reset_info(int device, std::span<std::byte> buffer) {
    const auto guard = enter("hot_reset_info");
    const auto* const file = find(device, Kind::device);
    if (!file || !file->open)
        return -EINVAL;
    if (file->device->bus.empty())
        return -ENODEV;
    vfio_pci_hot_reset_info info{};
    if (buffer.size() < sizeof info)
        return -EINVAL;
    std::memcpy(&info, buffer.data(), sizeof info);
    const auto room = (info.argsz - sizeof info) / sizeof(vfio_pci_dependent_device);
    info.count = static_cast<std::uint32_t>(file->device->bus.size());
    info.flags = file->iommufd != 0 ? devices::vfio::uapi::hot_reset_flag_dev_id : 0;
    std::memcpy(buffer.data(), &info, sizeof info);
    if (room < file->device->bus.size())
        return -ENOSPC;
    for (std::size_t i = 0; i < file->device->bus.size(); ++i) {
        const auto address = *devices::vfio::PciAddress::parse(file->device->bus[i]);
        vfio_pci_dependent_device one{0, static_cast<__u16>(address.segment), address.bus,
                                      static_cast<__u8>(address.slot << 3 | address.function)};
        one.group_id = file->iommufd != 0 ? devices::vfio::uapi::devid_not_owned : group_in_tree(file->device->bus[i]);
        for (const auto& other : devices_)
            if (other->address == file->device->bus[i] && file->iommufd == 0)
                one.group_id = other->group;
        for (const auto& [key, other] : files_)
            if (other.kind == Kind::device && other.device->address == file->device->bus[i] && file->iommufd != 0 &&
                other.iommufd == file->iommufd)
                one.group_id = other.dev_id;
        std::memcpy(buffer.data() + sizeof info + i * sizeof one, &one, sizeof one);
    }
    return 0;
}

int VfioKernel::hot_reset(int device, std::span<const std::byte> buffer) {
    const auto guard = enter("hot_reset");
    const auto* const file = find(device, Kind::device);
    vfio_pci_hot_reset reset{};
    if (!file || !file->open || buffer.size() < sizeof reset)
        return -EINVAL;
    std::memcpy(&reset, buffer.data(), sizeof reset);
    if ((reset.count == 0) != (file->iommufd != 0) || buffer.size() != sizeof reset + reset.count * sizeof(__s32))
        return -EINVAL;
    std::vector<__s32> groups(reset.count);
    if (!groups.empty())
        std::memcpy(groups.data(), buffer.data() + sizeof reset, groups.size() * sizeof(__s32));
    std::set<unsigned> held;
    for (const auto fd : groups) {
        const auto* const group = find(fd, Kind::group);
        if (!group)
            return -EBADF;
        held.insert(group->group);
    }
    if (std::ranges::any_of(file->device->bus, [&](const auto& other) { return unoffered(other); }))
        return -EINVAL;
    for (const auto& other : devices_) {
        const bool hit = std::ranges::find(file->device->bus, other->address) != file->device->bus.end();
        if (hit && file->iommufd == 0 && !held.contains(other->group))
            return -EINVAL;
    }
    calls.emplace_back("hot_reset");
    for (const auto& other : devices_)
        if (std::ranges::find(file->device->bus, other->address) != file->device->bus.end())
            ++other->hot_resets;
    return 0;
}

int VfioKernel::bind_iommufd(int device, devices::vfio::uapi::BindIommufd& bind) {
    const auto guard = enter("bind_iommufd");
    using devices::vfio::uapi::BindIommufd;
    auto* const file = find(device, Kind::device);
    if (!file || file->open || bind.argsz < devices::vfio::uapi::bind_size_without_token)
        return -EINVAL;
    if (!find(bind.iommufd, Kind::iommufd))
        return -EBADF;
    if (bind.flags != 0 && (bind.flags != BindIommufd::flag_token || !bind_takes_token))
        return -EINVAL;
    if (file->device->gone)
        return -ENODEV;
    if (file->device->open) { // by its group, or by its file
        const bool group = std::ranges::any_of(files_, [&](const auto& one) {
            return one.second.kind == Kind::group && one.second.group == file->device->group;
        });
        return group ? -EBUSY : -EINVAL;
    }
    if (!viable(file->device->group))
        return -EBUSY;
    if (file->device->token.empty() != (bind.flags == 0))
        return bind.flags == 0 ? -EACCES : -EINVAL;
    if (!isolated_interrupts)
        return -EPERM;
    auto& iommufd = files_.at(key_of(bind.iommufd));
    file->iommufd = key_of(bind.iommufd);
    file->dev_id = bind.out_devid = iommufd.next_id++;
    file->open = true;
    file->device->opened();
    calls.emplace_back("bind");
    return 0;
}

int VfioKernel::attach(int device, devices::vfio::uapi::AttachPageTable& attach) {
    const auto guard = enter("attach");
    auto* const file = find(device, Kind::device);
    if (!file || !file->open || file->iommufd == 0 || attach.flags != 0)
        return -EINVAL;
    if (!files_.at(file->iommufd).ioas.contains(attach.pt_id))
        return -ENOENT;
    for (const auto& [key, other] : files_) // a group has one page table
        if (other.kind == Kind::device && &other != file && other.device->group == file->device->group &&
            other.attached != 0 && other.attached != attach.pt_id)
            return -EINVAL;
    if (const auto own = reserved.find(file->device->address); own != reserved.end())
        for (const auto& [iova, one] : files_.at(file->iommufd).ioas.at(attach.pt_id)->mappings())
            if (iova <= own->second.second && own->second.first <= iova + one.size - 1)
                return -EADDRINUSE;
    file->attached = attach.pt_id;
    calls.emplace_back("attach");
    return 0;
}

int VfioKernel::detach(int device, devices::vfio::uapi::DetachPageTable& detach) {
    const auto guard = enter("detach");
    auto* const file = find(device, Kind::device);
    if (!file || detach.flags != 0)
        return -EINVAL;
    file->attached = 0;
    calls.emplace_back("detach");
    return 0;
}

int VfioKernel::ioas_alloc(int iommufd, devices::vfio::uapi::IoasAlloc& alloc) {
    const auto guard = enter("ioas_alloc");
    auto* const file = find(iommufd, Kind::iommufd);
    if (!file || alloc.flags != 0)
        return -EOPNOTSUPP;
    alloc.out_ioas_id = file->next_id++;
    file->ioas.emplace(alloc.out_ioas_id, std::make_unique<VfioDma>(rules));
    return 0;
}

/// Each attached device removes its own ranges.
std::vector<std::pair<std::uint64_t, std::uint64_t>> VfioKernel::usable(std::uint32_t id) {
    auto left = rules.ranges;
    for (const auto& [key, file] : files_) {
        const auto own = file.kind == Kind::device ? reserved.find(file.device->address) : reserved.end();
        if (own == reserved.end() || file.attached != id)
            continue;
        const auto [first, last] = own->second;
        for (std::size_t i = 0; i < left.size(); ++i)
            if (const auto whole = left[i]; whole.first <= first && last <= whole.second) {
                left[i].second = first - 1;
                left.insert(left.begin() + static_cast<std::ptrdiff_t>(i) + 1, {last + 1, whole.second});
                break;
            }
    }
    return left;
}

int VfioKernel::ioas_ranges(int iommufd, devices::vfio::uapi::IoasIovaRanges& ranges) {
    const auto guard = enter("ioas_ranges");
    if (!ioas(iommufd, ranges.ioas_id))
        return -ENOENT;
    const auto found = usable(ranges.ioas_id);
    const auto room = std::exchange(ranges.num_iovas, static_cast<std::uint32_t>(found.size()));
    ranges.out_iova_alignment = 4096;
    if (room < found.size())
        return -EMSGSIZE;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const devices::vfio::uapi::IovaRange range{found[i].first, found[i].second};
        std::memcpy(reinterpret_cast<std::byte*>(ranges.allowed_iovas) + i * sizeof range, &range,
                    sizeof range); // NOLINT
    }
    return 0;
}

int VfioKernel::destroy(int iommufd, std::uint32_t id) {
    const auto guard = enter("destroy");
    auto* const file = find(iommufd, Kind::iommufd);
    if (!file || !file->ioas.contains(id))
        return -ENOENT;
    for (const auto& [key, other] : files_)
        if (other.kind == Kind::device && other.iommufd == key_of(iommufd) && other.attached == id)
            return -EBUSY;
    file->ioas.erase(id);
    calls.emplace_back("destroy");
    return 0;
}

} // namespace inox::fakes
