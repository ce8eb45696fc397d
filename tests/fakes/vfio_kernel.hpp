// SPDX-License-Identifier: Apache-2.0
// VFIO and iommufd without a kernel: documented rules of both interfaces over made-up devices. Files are sockets, so
// the fake sees when the last copy of one is closed, as a kernel does.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "devices/vfio/kernel.hpp"
#include "devices/vfio/pci_address.hpp"
#include "tests/fakes/vfio_device.hpp"
#include "tests/fakes/vfio_dma.hpp"
#include "tests/fakes/vfio_tree.hpp"

namespace inox::fakes {

class VfioKernel : public devices::vfio::Kernel {
public:
    VfioTree tree{};
    VfioDmaRules rules{};
    bool isolated_interrupts{true};
    bool type1_loaded{true};
    bool bind_takes_token{false};
    std::function<void()> on_map{};             ///< at the start of each call that maps, on its thread
    std::function<void(const char*)> on_call{}; ///< the same for all calls, with the name
    std::vector<std::string> calls{};           ///< names, in order, of those that change something

    /// A device bound to vfio-pci, in the tree too; with its own file when `name` is given.
    VfioDevice& add(const std::string& address, unsigned group, const std::string& file_name = {});
    /// What a device may not reach beside `rules.ranges`, as its own IOMMU has it. For iommufd.
    std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> reserved{};
    [[nodiscard]] std::size_t count(std::string_view call) const;
    /// Mappings that a device's DMA meets; null when it is attached to none.
    [[nodiscard]] const std::map<std::uint64_t, VfioDma::Mapping>* mappings(const std::string& address);
    /// Files that are open, of all kinds.
    [[nodiscard]] std::size_t open_files();

    int open(const std::string& path) override;

    // Container
    int api_version(int /*container*/) override { return VFIO_API_VERSION; }
    int check_extension(int /*container*/, unsigned extension) override;
    int set_iommu(int container, unsigned type) override;
    int iommu_info(int container, std::span<std::byte> buffer) override;
    int map_dma(int container, vfio_iommu_type1_dma_map& map) override;
    int unmap_dma(int container, vfio_iommu_type1_dma_unmap& unmap) override;

    // Group
    int group_status(int group, vfio_group_status& status) override;
    int set_container(int group, int container) override;
    int device_fd(int group, const std::string& name) override;

    // Device
    int device_info(int device, vfio_device_info& info) override;
    int region_info(int device, std::span<std::byte> info) override;
    int irq_info(int device, vfio_irq_info& info) override;
    int set_irqs(int device, std::span<const std::byte> set) override;
    int reset(int device) override;
    int hot_reset_info(int device, std::span<std::byte> buffer) override;
    int hot_reset(int device, std::span<const std::byte> buffer) override;
    std::int64_t read(int device, std::uint64_t offset, std::span<std::byte> out) override;
    std::int64_t write(int device, std::uint64_t offset, std::span<const std::byte> in) override;
    Result<inox::Mapping> map(int device, std::uint64_t offset, std::size_t size, int protection) override;

    // Device file and iommufd
    int bind_iommufd(int device, devices::vfio::uapi::BindIommufd& bind) override;
    int attach(int device, devices::vfio::uapi::AttachPageTable& attach) override;
    int detach(int device, devices::vfio::uapi::DetachPageTable& detach) override;
    int ioas_alloc(int iommufd, devices::vfio::uapi::IoasAlloc& alloc) override;
    int ioas_ranges(int iommufd, devices::vfio::uapi::IoasIovaRanges& ranges) override;
    int ioas_map(int iommufd, devices::vfio::uapi::IoasMap& map) override;
    int ioas_unmap(int iommufd, devices::vfio::uapi::IoasUnmap& unmap) override;
    int hwpt_alloc(int /*iommufd*/, devices::vfio::uapi::HwptAlloc& /*alloc*/) override { return -EOPNOTSUPP; }
    int hwpt_invalidate(int /*iommufd*/, devices::vfio::uapi::HwptInvalidate& /*invalidate*/) override;
    int hw_info(int /*iommufd*/, devices::vfio::uapi::GetHwInfo& /*info*/) override { return -EOPNOTSUPP; }
    int destroy(int iommufd, std::uint32_t id) override;

private:
    [[nodiscard]] std::unique_lock<std::recursive_mutex> enter(const char* call);
    enum class Kind { container, group, device, iommufd };
    using Key = ino_t; ///< of the socket: the same for every copy of the descriptor
    struct File {
        Kind kind;
        unsigned group{};
        VfioDevice* device{};
        UniqueFd watch{};               ///< hangs up when the last copy of the other end is closed
        std::unique_ptr<VfioDma> dma{}; ///< of a container
        Key container{};                ///< a group's, or a device's opened by its group
        bool open{};                    ///< a device that may be used
        Key iommufd{};                  ///< a device's
        std::uint32_t dev_id{};
        std::uint32_t attached{};                                 ///< IOAS
        std::map<std::uint32_t, std::unique_ptr<VfioDma>> ioas{}; ///< of an iommufd
        std::uint32_t next_id{1};
    };

    static Key key_of(int fd);
    int make(File file);
    /// Lets go of files that nobody has open.
    void reap();
    File* find(int fd, Kind kind);
    template <class F> int with(int fd, F&& call) {
        const auto* const file = find(fd, Kind::device);
        return file && file->open ? call(*file->device) : -EINVAL;
    }
    VfioDma* ioas(int iommufd, std::uint32_t id);
    const VfioDma* dma_of(const File& device);
    /// Whether a function is on the bus of a device and no driver of VFIO has it.
    bool unoffered(const std::string& address) const;
    unsigned group_in_tree(const std::string& address) const;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> usable(std::uint32_t id);
    bool viable(unsigned group) const;
    /// Whether a device's region is mapped there.
    static bool is_register_memory(std::uint64_t address);
    std::vector<std::byte> info_capabilities(const VfioDma& dma) const;

    mutable std::recursive_mutex mutex_{}; // calls come from several threads, as they do to a kernel
    std::vector<std::unique_ptr<VfioDevice>> devices_{};
    std::map<std::string, VfioDevice*> by_file_{};
    std::map<Key, File> files_{};
};

} // namespace inox::fakes
