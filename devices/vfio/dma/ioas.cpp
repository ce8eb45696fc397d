// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/dma/ioas.hpp"

#include <bit>
#include <cerrno>
#include <utility>

#include "vmm/base/bytes.hpp"

namespace inox::devices::vfio {
namespace {

std::unexpected<Error> failed(Errc code, int error, std::string what, std::string hint = {}) {
    return std::unexpected{Error{code, std::move(what), std::move(hint), {}, -error}};
}

} // namespace

Ioas::Ioas(Kernel& kernel, DmaResources& resources, std::string name, std::shared_ptr<UniqueFd> iommufd,
           std::uint32_t id)
    : AddressSpace{std::move(name), resources}, kernel_{kernel}, iommufd_{std::move(iommufd)}, id_{id} {}

Result<std::shared_ptr<Ioas>> Ioas::create(Kernel& kernel, DmaResources& resources, std::string name,
                                           std::shared_ptr<UniqueFd> iommufd) {
    uapi::IoasAlloc alloc{sizeof(uapi::IoasAlloc), 0, 0};
    if (const int error = kernel.ioas_alloc(iommufd->get(), alloc); error < 0)
        return failed(Errc::host_error, error, "IOMMU_IOAS_ALLOC for " + name);
    return std::shared_ptr<Ioas>{new Ioas{kernel, resources, std::move(name), std::move(iommufd), alloc.out_ioas_id}};
}

Ioas::~Ioas() { kernel_.destroy(iommufd(), id_); }

Result<void> Ioas::attach(int device, std::span<const ReservedLine> labels) {
    uapi::AttachPageTable attach{uapi::attach_size_without_pasid, 0, id_, 0};
    const int error = kernel_.attach(device, attach);
    if (error == -EADDRINUSE)
        return failed(Errc::reserved_conflict, error,
                      "memory is mapped where another device of " + name() + " may not do DMA",
                      "give the guest less memory, or start it with all devices of the group");
    if (error < 0)
        return failed(error == -EPERM ? Errc::iommu_unsafe : Errc::host_error, error,
                      "attaching a device of " + name() + " to its I/O address space");
    auto read = read_window(labels);
    if (!read)
        detach(device);
    return read;
}

void Ioas::detach(int device) {
    uapi::DetachPageTable detach{uapi::detach_size_without_pasid, 0, 0};
    kernel_.detach(device, detach); // fails only when the device is gone, and a gone device is detached
}

Result<void> Ioas::read_window(std::span<const ReservedLine> labels) {
    std::vector<uapi::IovaRange> found(16);
    uapi::IoasIovaRanges ask{};
    int error = -EMSGSIZE;
    for (int attempt = 0; attempt < 4 && error == -EMSGSIZE; ++attempt) {
        ask = {sizeof ask,
               id_,
               static_cast<std::uint32_t>(found.size()),
               0,
               reinterpret_cast<std::uintptr_t>(found.data()),
               0}; // NOLINT
        error = kernel_.ioas_ranges(iommufd(), ask);
        if (error == -EMSGSIZE)
            found.resize(ask.num_iovas);
    }
    if (error < 0)
        return failed(Errc::host_error, error, "IOMMU_IOAS_IOVA_RANGES for " + name());
    std::vector<IovaRange> usable;
    for (std::size_t i = 0; i < std::min<std::size_t>(ask.num_iovas, found.size()); ++i)
        if (const auto range = IovaRange::closed(Iova{found[i].start}, Iova{found[i].last}))
            usable.push_back(*range);
    // iommufd reports only the smallest page, and accepts any multiple of it.
    const std::uint64_t granule = std::has_single_bit(ask.out_iova_alignment) ? ask.out_iova_alignment : 1;
    set_window(make_window(std::move(usable), labels, ~(std::max(granule, page_size) - 1)));
    return {};
}

int Ioas::kernel_map(std::uint64_t iova, std::uint64_t size, std::span<std::byte> host, Access access) {
    uapi::IoasMap map{};
    map.size = sizeof map;
    map.flags = uapi::IoasMap::flag_fixed_iova;
    if (access != Access::write)
        map.flags |= uapi::IoasMap::flag_readable;
    if (access != Access::read)
        map.flags |= uapi::IoasMap::flag_writeable;
    map.ioas_id = id_;
    map.user_va = reinterpret_cast<std::uintptr_t>(host.data()); // NOLINT
    map.length = size;
    map.iova = iova;
    return kernel_.ioas_map(iommufd(), map);
}

int Ioas::kernel_unmap(std::uint64_t iova, std::uint64_t size) {
    uapi::IoasUnmap unmap{sizeof(uapi::IoasUnmap), id_, iova, size};
    const int error = kernel_.ioas_unmap(iommufd(), unmap);
    return error == -ENOENT ? 0 : error; // nothing was mapped, which is the wanted result
}

int Ioas::kernel_unmap_all() { return kernel_unmap(0, ~std::uint64_t{0}); }

} // namespace inox::devices::vfio
