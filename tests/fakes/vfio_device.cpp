// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/vfio_device.hpp"

#include <cstring>

#include "vmm/base/bytes.hpp"

namespace inox::fakes {

VfioDevice::VfioDevice(std::string device_address, unsigned group_number)
    : address{std::move(device_address)}, group{group_number}, memory{::memfd_create("vfio", MFD_CLOEXEC)} {
    if (::ftruncate(memory.get(), static_cast<off_t>(regions.size() * region_stride)) != 0)
        std::abort();
    constexpr auto all = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    regions[0] = {0x4000, all | VFIO_REGION_INFO_FLAG_MMAP, true, {}};
    regions[devices::vfio::region_config] = {4096, all, false, {}};
    vectors[0] = {1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED, {}, 0};
    vectors[1] = {1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, {}, 0};
    vectors[2] = {8, VFIO_IRQ_INFO_EVENTFD, {}, 0};
    vectors[3] = {1, VFIO_IRQ_INFO_EVENTFD, {}, 0};
    vectors[4] = {1, VFIO_IRQ_INFO_EVENTFD, {}, 0};
}

void VfioDevice::interrupt(unsigned index, unsigned vector) {
    const auto found = vectors[index].events.find(vector);
    if (found == vectors[index].events.end() || !found->second || (index == 0 && masked))
        return;
    const std::uint64_t one = 1;
    if (::write(found->second.get(), &one, sizeof one) != sizeof one)
        std::abort();
    masked = masked || index == 0;
}

void VfioDevice::opened() {
    open = true;
    resets += (flags & VFIO_DEVICE_FLAGS_RESET) != 0;
}

void VfioDevice::closed() {
    resets += (flags & VFIO_DEVICE_FLAGS_RESET) != 0;
    for (auto& kind : vectors) {
        kind.events.clear();
        kind.enabled = 0;
    }
    unmask_event.reset();
    masked = open = false;
}

int VfioDevice::info(vfio_device_info& out) const {
    if (gone)
        return -ENODEV;
    out.flags = flags;
    out.num_regions = 9;
    out.num_irqs = 5;
    return 0;
}

int VfioDevice::region_info(std::span<std::byte> buffer) const {
    vfio_region_info out{};
    if (buffer.size() < sizeof out)
        return -EINVAL;
    std::memcpy(&out, buffer.data(), sizeof out);
    if (out.argsz < sizeof out || out.index >= regions.size() || out.index == 8)
        return -EINVAL;
    const auto& region = regions[out.index];
    const auto chain = capabilities(region);
    const auto room = out.argsz;
    out.flags = region.flags;
    out.size = region.size;
    out.offset = out.index * region_stride;
    out.cap_offset = 0;
    if (!chain.empty()) {
        out.flags |= VFIO_REGION_INFO_FLAG_CAPS;
        out.argsz = static_cast<std::uint32_t>(sizeof out + chain.size());
        if (room >= out.argsz) {
            out.cap_offset = sizeof out;
            std::memcpy(buffer.data() + sizeof out, chain.data(), chain.size());
        }
    }
    std::memcpy(buffer.data(), &out, sizeof out);
    return 0;
}

int VfioDevice::irq_info(vfio_irq_info& out) const {
    if (out.index >= vectors.size())
        return -EINVAL;
    out.flags = vectors[out.index].flags;
    out.count = vectors[out.index].count;
    return 0;
}

int VfioDevice::set_irqs(std::span<const std::byte> buffer) {
    constexpr std::size_t header = offsetof(vfio_irq_set, data);
    vfio_irq_set set{};
    if (buffer.size() < header)
        return -EINVAL;
    std::memcpy(&set, buffer.data(), header);
    const auto data = set.flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
    const auto action = set.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
    if (set.index >= vectors.size() || set.argsz != buffer.size())
        return -EINVAL;
    auto& kind = vectors[set.index];
    if (set.start > kind.count || set.count > kind.count - set.start)
        return -EINVAL;
    if (data == VFIO_IRQ_SET_DATA_EVENTFD && buffer.size() < header + set.count * sizeof(int))
        return -EINVAL;
    std::vector<int> fds(data == VFIO_IRQ_SET_DATA_EVENTFD ? set.count : 0);
    if (!fds.empty())
        std::memcpy(fds.data(), buffer.data() + header, fds.size() * sizeof(int));
    if (action != VFIO_IRQ_SET_ACTION_TRIGGER)
        return set.index == 0 ? mask(action == VFIO_IRQ_SET_ACTION_MASK, fds) : -ENOTTY;
    if (data == VFIO_IRQ_SET_DATA_NONE && set.count == 0) {
        kind.events.clear();
        kind.enabled = 0;
        return 0;
    }
    if (data == VFIO_IRQ_SET_DATA_NONE) {
        for (unsigned i = 0; i < set.count; ++i)
            interrupt(set.index, set.start + i);
        return 0;
    }
    return wire(set, kind, fds);
}

int VfioDevice::wire(const vfio_irq_set& set, Vectors& kind, const std::vector<int>& fds) {
    for (unsigned other = 0; other < 3; ++other) // only one of INTx, MSI and MSI-X
        if (set.index < 3 && other != set.index && vectors[other].enabled != 0)
            return -EINVAL;
    const auto end = std::size_t{set.start} + set.count;
    if (kind.enabled == 0)
        kind.enabled = end;
    else if (end > kind.enabled && (kind.flags & VFIO_IRQ_INFO_NORESIZE) != 0)
        return -EINVAL;
    kind.enabled = std::max(kind.enabled, end);
    for (unsigned i = 0; i < set.count; ++i)
        kind.events.insert_or_assign(set.start + i, copy_of(fds[i]));
    return 0;
}

int VfioDevice::mask(bool on, const std::vector<int>& fds) {
    if (vectors[0].enabled == 0)
        return -EINVAL;
    if (fds.empty())
        masked = on;
    else
        unmask_event = copy_of(fds[0]);
    return 0;
}

std::vector<std::byte> VfioDevice::capabilities(const Region& region) {
    std::vector<std::byte> chain;
    const auto put = [&](std::uint64_t value, std::size_t width) {
        chain.resize(chain.size() + width);
        store_le(std::span{chain}.last(width), value);
    };
    if (!region.sparse.empty()) {
        const auto next = region.msix_mappable ? sizeof(vfio_region_info) + 16 + region.sparse.size() * 16 : 0;
        put(VFIO_REGION_INFO_CAP_SPARSE_MMAP, 2);
        put(1, 2);
        put(next, 4);
        put(region.sparse.size(), 4);
        put(0, 4);
        for (const auto& area : region.sparse) {
            put(area.offset, 8);
            put(area.size, 8);
        }
    }
    if (region.msix_mappable) {
        put(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 2);
        put(1, 2);
        put(0, 4);
    }
    return chain;
}

} // namespace inox::fakes
