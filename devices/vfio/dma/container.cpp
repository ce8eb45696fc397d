// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/dma/container.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include "devices/vfio/capabilities.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::devices::vfio {
namespace {

constexpr std::uint16_t capability_iova_ranges = 1; // of VFIO_IOMMU_GET_INFO
constexpr std::uint16_t capability_dma_avail = 3;

std::unexpected<Error> failed(Errc code, int error, std::string what, std::string hint = {}) {
    return std::unexpected{Error{code, std::move(what), std::move(hint), {}, -error}};
}

std::vector<IovaRange> read_ranges(std::span<const std::byte> body) {
    const auto count = load_le<std::uint32_t>(body.first(std::min<std::size_t>(body.size(), 4)));
    std::vector<IovaRange> out;
    for (std::size_t i = 0, at = 8; i < count && at + 16 <= body.size(); ++i, at += 16)
        if (const auto range =
                IovaRange::closed(Iova{load_le(body.subspan(at, 8))}, Iova{load_le(body.subspan(at + 8, 8))}))
            out.push_back(*range);
    return out;
}

} // namespace

Container::Container(Kernel& kernel, DmaResources& resources, std::string name, Files files, Registration kvm)
    : AddressSpace{std::move(name), resources}, kernel_{kernel}, files_{std::move(files)}, kvm_{std::move(kvm)} {}

Result<std::shared_ptr<Container>> Container::create(Kernel& kernel, DmaResources& resources, std::string name,
                                                     Files files, std::span<const ReservedLine> labels,
                                                     Registration kvm) {
    std::shared_ptr<Container> container{
        new Container{kernel, resources, std::move(name), std::move(files), std::move(kvm)}};
    TRY_VOID(container->set_up());
    TRY_VOID(container->read_info(labels));
    return container;
}

Result<void> Container::set_up() {
    const int container = files_.container.get();
    if (const int version = kernel_.api_version(container); version != VFIO_API_VERSION)
        return fail(Errc::vfio_missing, format("VFIO speaks version %d of its interface, not 0", version));
    vfio_group_status status{sizeof(vfio_group_status), 0};
    if (const int error = kernel_.group_status(group(), status); error < 0)
        return failed(Errc::host_error, error, "asking for the status of " + name());
    if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0)
        return fail(Errc::vfio_group, name() + " is not viable: the host uses another device of the group",
                    "bind every device of the group to vfio-pci; `inox host` lists them");
    if ((status.flags & VFIO_GROUP_FLAGS_CONTAINER_SET) == 0) {
        if (const int error = kernel_.set_container(group(), container); error < 0)
            return failed(error == -EPERM ? Errc::vfio_group : Errc::host_error, error,
                          "putting " + name() + " into a VFIO container");
        if (kernel_.check_extension(container, VFIO_TYPE1v2_IOMMU) <= 0)
            return fail(Errc::vfio_missing, "VFIO's container knows no IOMMU of type 1 v2",
                        "sudo modprobe vfio_iommu_type1");
        const int error = kernel_.set_iommu(container, VFIO_TYPE1v2_IOMMU);
        if (error == -EPERM)
            return failed(Errc::iommu_unsafe, error,
                          "the host does not isolate interrupts: devices of " + name() + " could inject any",
                          "turn on interrupt remapping in the firmware; or, if you trust the guest: echo 1 | sudo tee "
                          "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
        if (error == -ENODEV)
            return failed(Errc::iommu_missing, error, "no IOMMU for " + name());
        if (error < 0)
            return failed(Errc::host_error, error, "VFIO_SET_IOMMU for " + name());
    }
    unmap_all_ = kernel_.check_extension(container, VFIO_UNMAP_ALL) > 0;
    return {};
}

Result<void> Container::read_info(std::span<const ReservedLine> labels) {
    int error = 0;
    const auto answer = ask_with_capabilities(
        sizeof(vfio_iommu_type1_info), {},
        [&](auto buffer) { return kernel_.iommu_info(files_.container.get(), buffer); }, error);
    if (error < 0)
        return failed(Errc::host_error, error, "VFIO_IOMMU_GET_INFO for " + name());
    vfio_iommu_type1_info info{};
    std::memcpy(&info, answer.data(), sizeof info);
    std::vector<IovaRange> usable;
    if ((info.flags & VFIO_IOMMU_INFO_CAPS) != 0)
        for (const auto& capability : info_capabilities(answer, info.cap_offset)) {
            if (capability.id == capability_iova_ranges)
                usable = read_ranges(capability.body);
            else if (capability.id == capability_dma_avail && capability.body.size() >= 4)
                mapping_limit_ = load_le<std::uint32_t>(capability.body.first(4));
        }
    const bool sizes_known = (info.flags & VFIO_IOMMU_INFO_PGSIZES) != 0;
    set_window(make_window(std::move(usable), labels, sizes_known ? info.iova_pgsizes : ~(page_size - 1)));
    return {};
}

int Container::kernel_map(std::uint64_t iova, std::uint64_t size, std::span<std::byte> host, Access access) {
    vfio_iommu_type1_dma_map map{};
    map.argsz = sizeof map;
    map.vaddr = reinterpret_cast<std::uintptr_t>(host.data()); // NOLINT
    map.iova = iova;
    map.size = size;
    if (access != Access::write)
        map.flags |= VFIO_DMA_MAP_FLAG_READ;
    if (access != Access::read)
        map.flags |= VFIO_DMA_MAP_FLAG_WRITE;
    return kernel_.map_dma(files_.container.get(), map);
}

int Container::kernel_unmap(std::uint64_t iova, std::uint64_t size) {
    vfio_iommu_type1_dma_unmap unmap{};
    unmap.argsz = sizeof unmap;
    unmap.iova = iova;
    unmap.size = size;
    const int error = kernel_.unmap_dma(files_.container.get(), unmap);
    return error == -ENOENT ? 0 : error; // iommufd's emulation of a container reports this when nothing is there
}

int Container::kernel_unmap_all() {
    if (!unmap_all_)
        return -ENOTTY;
    vfio_iommu_type1_dma_unmap unmap{};
    unmap.argsz = sizeof unmap;
    unmap.flags = VFIO_DMA_UNMAP_FLAG_ALL;
    const int error = kernel_.unmap_dma(files_.container.get(), unmap);
    return error == -ENOENT ? 0 : error;
}

} // namespace inox::devices::vfio
