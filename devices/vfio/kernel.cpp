// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/kernel.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/outside/outside.hpp"

namespace inox::devices::vfio {
namespace {

template <class F> auto retried(F&& call) {
    auto result = call();
    while (result < 0 && errno == EINTR)
        result = call();
    return result < 0 ? static_cast<decltype(result)>(-errno) : result;
}

int request(int fd, unsigned long number, void* argument) {
    return retried([&] { return ::ioctl(fd, number, argument); });
}
int request_value(int fd, unsigned long number, unsigned long argument) {
    return retried([&] { return ::ioctl(fd, number, argument); });
}

class HostKernel final : public Kernel {
public:
    int open(const std::string& path) override {
        // A device that is reset when it is opened takes its time.
        return retried([&] { return outside::open(path, O_RDWR, 0, outside::Wait::long_).release(); });
    }

    int api_version(int container) override { return request_value(container, VFIO_GET_API_VERSION, 0); }
    int check_extension(int container, unsigned extension) override {
        return request_value(container, VFIO_CHECK_EXTENSION, extension);
    }
    int set_iommu(int container, unsigned type) override { return request_value(container, VFIO_SET_IOMMU, type); }
    int iommu_info(int container, std::span<std::byte> info) override {
        return request(container, VFIO_IOMMU_GET_INFO, info.data());
    }
    int map_dma(int container, vfio_iommu_type1_dma_map& map) override {
        return request(container, VFIO_IOMMU_MAP_DMA, &map);
    }
    int unmap_dma(int container, vfio_iommu_type1_dma_unmap& unmap) override {
        return request(container, VFIO_IOMMU_UNMAP_DMA, &unmap);
    }

    int group_status(int group, vfio_group_status& status) override {
        return request(group, VFIO_GROUP_GET_STATUS, &status);
    }
    int set_container(int group, int container) override {
        return request(group, VFIO_GROUP_SET_CONTAINER, &container);
    }
    int device_fd(int group, const std::string& name) override {
        std::string copy = name;
        return request(group, VFIO_GROUP_GET_DEVICE_FD, copy.data()); // the kernel makes it close-on-exec
    }

    int device_info(int device, vfio_device_info& info) override {
        return request(device, VFIO_DEVICE_GET_INFO, &info);
    }
    int region_info(int device, std::span<std::byte> info) override {
        return request(device, VFIO_DEVICE_GET_REGION_INFO, info.data());
    }
    int irq_info(int device, vfio_irq_info& info) override { return request(device, VFIO_DEVICE_GET_IRQ_INFO, &info); }
    int set_irqs(int device, std::span<const std::byte> set) override {
        return retried([&] { return ::ioctl(device, VFIO_DEVICE_SET_IRQS, set.data()); });
    }
    int reset(int device) override { return request_value(device, VFIO_DEVICE_RESET, 0); }
    int hot_reset_info(int device, std::span<std::byte> info) override {
        return request(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info.data());
    }
    int hot_reset(int device, std::span<const std::byte> reset) override {
        return retried([&] { return ::ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, reset.data()); });
    }
    std::int64_t read(int device, std::uint64_t file_offset, std::span<std::byte> out) override {
        return retried([&] { return ::pread(device, out.data(), out.size(), static_cast<off_t>(file_offset)); });
    }
    std::int64_t write(int device, std::uint64_t file_offset, std::span<const std::byte> in) override {
        return retried([&] { return ::pwrite(device, in.data(), in.size(), static_cast<off_t>(file_offset)); });
    }
    Result<Mapping> map(int device, std::uint64_t file_offset, std::size_t size, int protection) override {
        return Mapping::create(size, protection, MAP_SHARED, device, static_cast<std::int64_t>(file_offset));
    }

    int bind_iommufd(int device, uapi::BindIommufd& bind) override {
        return request(device, uapi::BindIommufd::request, &bind);
    }
    int attach(int device, uapi::AttachPageTable& attach) override {
        return request(device, uapi::AttachPageTable::request, &attach);
    }
    int detach(int device, uapi::DetachPageTable& detach) override {
        return request(device, uapi::DetachPageTable::request, &detach);
    }

    int ioas_alloc(int iommufd, uapi::IoasAlloc& alloc) override {
        return request(iommufd, uapi::IoasAlloc::request, &alloc);
    }
    int ioas_ranges(int iommufd, uapi::IoasIovaRanges& ranges) override {
        return request(iommufd, uapi::IoasIovaRanges::request, &ranges);
    }
    int ioas_map(int iommufd, uapi::IoasMap& map) override { return request(iommufd, uapi::IoasMap::request, &map); }
    int ioas_unmap(int iommufd, uapi::IoasUnmap& unmap) override {
        return request(iommufd, uapi::IoasUnmap::request, &unmap);
    }
    int hwpt_alloc(int iommufd, uapi::HwptAlloc& alloc) override {
        return request(iommufd, uapi::HwptAlloc::request, &alloc);
    }
    int hwpt_invalidate(int iommufd, uapi::HwptInvalidate& invalidate) override {
        return request(iommufd, uapi::HwptInvalidate::request, &invalidate);
    }
    int hw_info(int iommufd, uapi::GetHwInfo& info) override {
        return request(iommufd, uapi::GetHwInfo::request, &info);
    }
    int destroy(int iommufd, std::uint32_t id) override {
        uapi::Destroy argument{sizeof(uapi::Destroy), id};
        return request(iommufd, uapi::Destroy::request, &argument);
    }
};

} // namespace

Kernel& Kernel::host() {
    static HostKernel kernel;
    return kernel;
}

} // namespace inox::devices::vfio
