// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/vfio_kernel.hpp"

#include <algorithm>
#include <cstring>

#include "vmm/base/bytes.hpp"

namespace inox::fakes {

VfioDevice& VfioKernel::add(const std::string& address, unsigned group, const std::string& file_name) {
    tree.device(address, group, "vfio-pci");
    if (!file_name.empty())
        tree.device_file(address, file_name);
    auto& device = *devices_.emplace_back(std::make_unique<VfioDevice>(address, group));
    if (!file_name.empty())
        by_file_["/dev/vfio/devices/" + file_name] = &device;
    return device;
}

std::size_t VfioKernel::count(std::string_view call) const {
    const std::lock_guard lock{mutex_};
    return static_cast<std::size_t>(std::ranges::count(calls, call));
}

const std::map<std::uint64_t, VfioDma::Mapping>* VfioKernel::mappings(const std::string& address) {
    const std::lock_guard lock{mutex_};
    reap();
    for (const auto& [key, file] : files_)
        if (file.kind == Kind::device && file.device->address == address && file.open)
            if (const auto* dma = dma_of(file))
                return &dma->mappings();
    return nullptr;
}

std::size_t VfioKernel::open_files() {
    const std::lock_guard lock{mutex_};
    reap();
    return files_.size();
}

int VfioKernel::open(const std::string& path) {
    const auto guard = enter("open");
    reap();
    const auto inside = path.starts_with(tree.root()) ? path.substr(tree.root().size()) : path;
    if (::access((tree.root() + inside).c_str(), R_OK | W_OK) != 0)
        return -errno;
    if (inside == "/dev/vfio/vfio")
        return make({Kind::container, 0, nullptr});
    if (inside == "/dev/iommu")
        return make({Kind::iommufd, 0, nullptr});
    if (const auto found = by_file_.find(inside); found != by_file_.end())
        return make({Kind::device, 0, found->second});
    const auto group = static_cast<unsigned>(std::strtoul(inside.substr(inside.rfind('/') + 1).c_str(), nullptr, 10));
    for (const auto& [key, file] : files_)
        if (file.kind == Kind::group && file.group == group)
            return -EBUSY;
    return make({Kind::group, group, nullptr});
}

int VfioKernel::check_extension(int /*container*/, unsigned extension) {
    const auto guard = enter("check_extension");
    return (extension == VFIO_TYPE1v2_IOMMU && type1_loaded) || (extension == VFIO_UNMAP_ALL && rules.unmap_all) ? 1
                                                                                                                 : 0;
}

int VfioKernel::set_iommu(int container, unsigned type) {
    const auto guard = enter("set_iommu");
    auto* const file = find(container, Kind::container);
    if (!file || type != VFIO_TYPE1v2_IOMMU || file->dma)
        return -EINVAL;
    if (std::ranges::none_of(files_, [&](const auto& one) { return one.second.container == key_of(container); }))
        return -EINVAL;
    if (!isolated_interrupts)
        return -EPERM;
    calls.emplace_back("set_iommu");
    file->dma = std::make_unique<VfioDma>(rules);
    return 0;
}

int VfioKernel::iommu_info(int container, std::span<std::byte> buffer) {
    const auto guard = enter("iommu_info");
    const auto* const file = find(container, Kind::container);
    vfio_iommu_type1_info info{};
    if (!file || !file->dma || buffer.size() < sizeof info)
        return -EINVAL;
    std::memcpy(&info, buffer.data(), sizeof info);
    const auto room = info.argsz;
    info.flags = VFIO_IOMMU_INFO_PGSIZES;
    info.iova_pgsizes = rules.page_sizes;
    if (rules.range_list) {
        const auto chain = info_capabilities(*file->dma);
        info.flags |= VFIO_IOMMU_INFO_CAPS;
        info.argsz = static_cast<std::uint32_t>(sizeof info + chain.size());
        info.cap_offset = room >= info.argsz ? sizeof info : 0;
        if (info.cap_offset != 0)
            std::memcpy(buffer.data() + sizeof info, chain.data(), chain.size());
    }
    std::memcpy(buffer.data(), &info, sizeof info);
    return 0;
}

int VfioKernel::map_dma(int container, vfio_iommu_type1_dma_map& map) {
    if (on_map)
        on_map();
    const auto guard = enter("map_dma");
    calls.emplace_back("map");
    auto* const file = find(container, Kind::container);
    return file && file->dma ? file->dma->map_type1(map) : -EINVAL;
}

int VfioKernel::unmap_dma(int container, vfio_iommu_type1_dma_unmap& unmap) {
    const auto guard = enter("unmap_dma");
    calls.emplace_back((unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL) != 0 ? "unmap_all" : "unmap");
    auto* const file = find(container, Kind::container);
    return file && file->dma ? file->dma->unmap_type1(unmap) : -EINVAL;
}

int VfioKernel::group_status(int group, vfio_group_status& status) {
    const auto guard = enter("group_status");
    const auto* const file = find(group, Kind::group);
    if (!file)
        return -ENOTTY;
    status.flags = (viable(file->group) ? VFIO_GROUP_FLAGS_VIABLE : 0U) |
                   (file->container != 0 ? VFIO_GROUP_FLAGS_CONTAINER_SET : 0U);
    return 0;
}

int VfioKernel::set_container(int group, int container) {
    const auto guard = enter("set_container");
    auto* const file = find(group, Kind::group);
    if (!file || !find(container, Kind::container) || file->container != 0)
        return -EINVAL;
    if (!viable(file->group))
        return -EPERM;
    calls.emplace_back("set_container");
    file->container = key_of(container);
    return 0;
}

int VfioKernel::device_fd(int group, const std::string& name) {
    const auto guard = enter("device_fd");
    auto* const file = find(group, Kind::group);
    if (!file || file->container == 0 || !files_.at(file->container).dma)
        return -EINVAL;
    const auto address = name.substr(0, name.find(' '));
    const auto token = name.size() == address.size() ? "" : name.substr(address.size() + 1 + strlen("vf_token="));
    for (const auto& device : devices_)
        if (device->address == address && device->group == file->group && !device->gone) {
            if (device->open)
                return -EBUSY;
            if (device->token != token)
                return device->token.empty() ? -EINVAL : -EACCES;
            device->opened();
            calls.emplace_back("device_fd");
            File made{Kind::device, 0, device.get()};
            made.container = file->container;
            made.open = true;
            return make(std::move(made));
        }
    return -ENODEV;
}

int VfioKernel::device_info(int device, vfio_device_info& info) {
    const auto guard = enter("device_info");
    return with(device, [&](VfioDevice& one) { return one.info(info); });
}

int VfioKernel::region_info(int device, std::span<std::byte> info) {
    const auto guard = enter("region_info");
    return with(device, [&](VfioDevice& one) { return one.region_info(info); });
}

int VfioKernel::irq_info(int device, vfio_irq_info& info) {
    const auto guard = enter("irq_info");
    return with(device, [&](VfioDevice& one) { return one.irq_info(info); });
}

int VfioKernel::set_irqs(int device, std::span<const std::byte> set) {
    const auto guard = enter("set_irqs");
    return with(device, [&](VfioDevice& one) { return one.set_irqs(set); });
}

int VfioKernel::reset(int device) {
    const auto guard = enter("reset");
    return with(device, [&](VfioDevice& one) {
        if ((one.flags & VFIO_DEVICE_FLAGS_RESET) == 0)
            return -ENOTTY;
        ++one.resets;
        return 0;
    });
}

std::int64_t VfioKernel::read(int device, std::uint64_t offset, std::span<std::byte> out) {
    const auto guard = enter("read");
    return with(device, [&](VfioDevice& one) {
        one.last_width = out.size();
        if (one.io_error)
            return -EIO;
        const auto got = ::pread(one.memory.get(), out.data(), out.size(), static_cast<off_t>(offset));
        constexpr auto config = devices::vfio::region_config * VfioDevice::region_stride;
        for (std::size_t i = 0; one.gone && i < out.size(); ++i)
            if (offset + i < config || !kept_by_vfio(offset + i - config))
                out[i] = std::byte{0xff};
        return static_cast<int>(got);
    });
}

std::int64_t VfioKernel::write(int device, std::uint64_t offset, std::span<const std::byte> in) {
    const auto guard = enter("write");
    return with(device, [&](VfioDevice& one) {
        one.last_width = in.size();
        if (one.io_error)
            return -EIO;
        return one.gone
                   ? static_cast<int>(in.size())
                   : static_cast<int>(::pwrite(one.memory.get(), in.data(), in.size(), static_cast<off_t>(offset)));
    });
}

Result<inox::Mapping> VfioKernel::map(int device, std::uint64_t offset, std::size_t size, int protection) {
    const auto guard = enter("map");
    const auto* const file = find(device, Kind::device);
    if (!file || file->device->gone)
        return fail(Errc::host_error, "no device");
    return inox::Mapping::create(size, protection, MAP_SHARED, file->device->memory.get(),
                                 static_cast<std::int64_t>(offset));
}

int VfioKernel::ioas_map(int iommufd, devices::vfio::uapi::IoasMap& map) {
    if (on_map)
        on_map();
    const auto guard = enter("ioas_map");
    calls.emplace_back("map");
    auto* const dma = ioas(iommufd, map.ioas_id);
    if (is_register_memory(map.user_va))
        return -EFAULT; // iommufd takes pages only
    return dma ? dma->map_ioas(map) : -ENOENT;
}

int VfioKernel::ioas_unmap(int iommufd, devices::vfio::uapi::IoasUnmap& unmap) {
    const auto guard = enter("ioas_unmap");
    calls.emplace_back(unmap.length == ~std::uint64_t{0} ? "unmap_all" : "unmap");
    auto* const dma = ioas(iommufd, unmap.ioas_id);
    return dma ? dma->unmap_ioas(unmap) : -ENOENT;
}

int VfioKernel::hwpt_invalidate(int /*iommufd*/, devices::vfio::uapi::HwptInvalidate& /*invalidate*/) {
    const auto guard = enter("hwpt_invalidate");
    return -EOPNOTSUPP;
}

std::unique_lock<std::recursive_mutex> VfioKernel::enter(const char* call) {
    if (on_call)
        on_call(call);
    return std::unique_lock{mutex_};
}

VfioKernel::Key VfioKernel::key_of(int fd) {
    struct stat status {};
    return ::fstat(fd, &status) == 0 ? status.st_ino : 0;
}

int VfioKernel::make(File file) {
    int ends[2]{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return -errno;
    file.watch.reset(ends[0]);
    files_.emplace(key_of(ends[1]), std::move(file));
    return ends[1];
}

void VfioKernel::reap() {
    const auto closed = [](const File& file) {
        pollfd poll{file.watch.get(), 0, 0};
        return ::poll(&poll, 1, 0) > 0 && (poll.revents & POLLHUP) != 0;
    };
    std::erase_if(files_, [&](const auto& one) {
        if (!closed(one.second))
            return false;
        if (one.second.kind == Kind::device && one.second.open)
            one.second.device->closed();
        return true;
    });
    for (auto& [key, file] : files_) // the last group's end removes its container's mappings
        if (file.kind == Kind::container && file.dma &&
            std::ranges::none_of(files_, [&](const auto& one) { return one.second.container == key; }))
            file.dma.reset();
}

VfioKernel::File* VfioKernel::find(int fd, Kind kind) {
    reap();
    const auto found = files_.find(key_of(fd));
    return found != files_.end() && found->second.kind == kind ? &found->second : nullptr;
}

VfioDma* VfioKernel::ioas(int iommufd, std::uint32_t id) {
    auto* const file = find(iommufd, Kind::iommufd);
    const auto found = file ? file->ioas.find(id) : decltype(file->ioas.end()){};
    return file && found != file->ioas.end() ? found->second.get() : nullptr;
}

const VfioDma* VfioKernel::dma_of(const File& device) {
    if (device.container != 0)
        return files_.contains(device.container) ? files_.at(device.container).dma.get() : nullptr;
    if (device.iommufd == 0 || device.attached == 0 || !files_.contains(device.iommufd))
        return nullptr;
    return files_.at(device.iommufd).ioas.at(device.attached).get();
}

bool VfioKernel::unoffered(const std::string& address) const {
    const auto driver = std::filesystem::path{tree.root()} / "sys/bus/pci/devices" / address / "driver";
    return !std::filesystem::is_symlink(driver) ||
           !tree.vfio_drivers.contains(std::filesystem::read_symlink(driver).filename());
}

unsigned VfioKernel::group_in_tree(const std::string& address) const {
    const auto link = std::filesystem::path{tree.root()} / "sys/bus/pci/devices" / address / "iommu_group";
    return std::filesystem::is_symlink(link)
               ? static_cast<unsigned>(std::stoul(std::filesystem::read_symlink(link).filename()))
               : 0;
}

bool VfioKernel::viable(unsigned group) const {
    return std::ranges::all_of(devices_, [&](const auto& device) {
        const auto driver = std::filesystem::path{tree.root()} / "sys/bus/pci/devices" / device->address / "driver";
        return device->group != group || !std::filesystem::is_symlink(driver) ||
               tree.vfio_drivers.contains(std::filesystem::read_symlink(driver).filename());
    });
}

bool VfioKernel::is_register_memory(std::uint64_t address) {
    std::ifstream maps{"/proc/self/maps"};
    for (std::string line; std::getline(maps, line);) {
        char* end = nullptr;
        const auto first = std::strtoull(line.c_str(), &end, 16);
        const auto behind = std::strtoull(end + 1, nullptr, 16);
        if (first <= address && address < behind)
            return line.find("memfd:vfio") != line.npos;
    }
    return false;
}

std::vector<std::byte> VfioKernel::info_capabilities(const VfioDma& dma) const {
    std::vector<std::byte> chain;
    const auto put = [&](std::uint64_t value, std::size_t width) {
        chain.resize(chain.size() + width);
        store_le(std::span{chain}.last(width), value);
    };
    put(1, 2);
    put(1, 2);
    put(sizeof(vfio_iommu_type1_info) + 16 + rules.ranges.size() * 16, 4);
    put(rules.ranges.size(), 4);
    put(0, 4);
    for (const auto& [first, last] : rules.ranges) {
        put(first, 8);
        put(last, 8);
    }
    put(3, 2);
    put(1, 2);
    put(0, 4);
    put(rules.entry_limit - dma.mappings().size(), 4);
    return chain;
}

} // namespace inox::fakes
