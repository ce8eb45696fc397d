// SPDX-License-Identifier: Apache-2.0
// The system calls that VFIO needs, one function each, so that a fake can stand in for the kernel. Nothing is decided
// here.
#pragma once

#include <linux/vfio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "devices/vfio/iommufd_uapi.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::vfio {

/// Every int result is 0 or what the comment says, or a negative errno. Buffers for requests of variable length start
/// with the kernel's structure, argsz filled in. Thread-safe.
class Kernel {
public:
    Kernel() = default;
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;
    virtual ~Kernel() = default;
    /// The one this process runs on.
    static Kernel& host();

    /// A file descriptor; for reading and writing, close-on-exec.
    virtual int open(const std::string& path) = 0;

    // The legacy container
    virtual int api_version(int container) = 0;
    virtual int check_extension(int container, unsigned extension) = 0; ///< positive: there
    virtual int set_iommu(int container, unsigned type) = 0;
    virtual int iommu_info(int container, std::span<std::byte> info) = 0; ///< vfio_iommu_type1_info
    virtual int map_dma(int container, vfio_iommu_type1_dma_map& map) = 0;
    virtual int unmap_dma(int container, vfio_iommu_type1_dma_unmap& unmap) = 0;

    // The legacy group
    virtual int group_status(int group, vfio_group_status& status) = 0;
    virtual int set_container(int group, int container) = 0;
    /// A file descriptor. `name` is the PCI address, perhaps followed by " vf_token=UUID".
    virtual int device_fd(int group, const std::string& name) = 0;

    // A device, however it was opened
    virtual int device_info(int device, vfio_device_info& info) = 0;
    virtual int region_info(int device, std::span<std::byte> info) = 0; ///< vfio_region_info
    virtual int irq_info(int device, vfio_irq_info& info) = 0;
    virtual int set_irqs(int device, std::span<const std::byte> set) = 0; ///< vfio_irq_set
    virtual int reset(int device) = 0;
    virtual int hot_reset_info(int device, std::span<std::byte> info) = 0;   ///< vfio_pci_hot_reset_info
    virtual int hot_reset(int device, std::span<const std::byte> reset) = 0; ///< vfio_pci_hot_reset
    /// Bytes moved. One access of the buffer's width where the device takes that width.
    virtual std::int64_t read(int device, std::uint64_t file_offset, std::span<std::byte> out) = 0;
    virtual std::int64_t write(int device, std::uint64_t file_offset, std::span<const std::byte> in) = 0;
    virtual Result<Mapping> map(int device, std::uint64_t file_offset, std::size_t size, int protection) = 0;

    // A device file
    virtual int bind_iommufd(int device, uapi::BindIommufd& bind) = 0;
    virtual int attach(int device, uapi::AttachPageTable& attach) = 0;
    virtual int detach(int device, uapi::DetachPageTable& detach) = 0;

    // Iommufd
    virtual int ioas_alloc(int iommufd, uapi::IoasAlloc& alloc) = 0;
    virtual int ioas_ranges(int iommufd, uapi::IoasIovaRanges& ranges) = 0;
    virtual int ioas_map(int iommufd, uapi::IoasMap& map) = 0;
    virtual int ioas_unmap(int iommufd, uapi::IoasUnmap& unmap) = 0;
    virtual int hwpt_alloc(int iommufd, uapi::HwptAlloc& alloc) = 0;
    virtual int hwpt_invalidate(int iommufd, uapi::HwptInvalidate& invalidate) = 0;
    virtual int hw_info(int iommufd, uapi::GetHwInfo& info) = 0;
    virtual int destroy(int iommufd, std::uint32_t id) = 0;
};

} // namespace inox::devices::vfio
