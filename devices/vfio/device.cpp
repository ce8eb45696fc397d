// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/device.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>

#include "devices/vfio/capabilities.hpp"
#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/kernel.hpp"
#include "devices/vfio/session.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/log.hpp"

namespace inox::devices::vfio {
namespace {

std::unexpected<Error> failed(int error, std::string what) {
    return std::unexpected{
        Error{error == -ENODEV ? Errc::not_found : Errc::host_error, std::move(what), {}, {}, -error}};
}

std::vector<RegionArea> sparse_areas(std::span<const std::byte> body) {
    const auto count = load_le<std::uint32_t>(body.first(std::min<std::size_t>(body.size(), 4)));
    std::vector<RegionArea> areas;
    for (std::size_t i = 0, at = 8; i < count && at + 16 <= body.size(); ++i, at += 16)
        areas.push_back({load_le(body.subspan(at, 8)), load_le(body.subspan(at + 8, 8))});
    return areas;
}

/// Keeps only whole pages inside the region, in order and without overlaps.
std::vector<RegionArea> checked_areas(std::vector<RegionArea> areas, std::uint64_t size) {
    std::ranges::sort(areas, {}, &RegionArea::offset);
    std::vector<RegionArea> out;
    std::uint64_t end = 0;
    for (const auto& area : areas) {
        const bool inside =
            area.size != 0 && area.offset >= end && area.offset < size && area.size <= size - area.offset;
        if (!inside || !is_aligned(area.offset, page_size))
            continue;
        out.push_back(area);
        end = area.offset + area.size;
    }
    return out;
}

RegionInfo region_from(std::span<const std::byte> answer) {
    vfio_region_info info{};
    std::memcpy(&info, answer.data(), sizeof info);
    RegionInfo region{info.size,
                      info.offset,
                      (info.flags & VFIO_REGION_INFO_FLAG_READ) != 0,
                      (info.flags & VFIO_REGION_INFO_FLAG_WRITE) != 0,
                      false,
                      {}};
    std::vector<RegionArea> areas{{0, info.size}};
    if ((info.flags & VFIO_REGION_INFO_FLAG_CAPS) != 0)
        for (const auto& capability : info_capabilities(answer, info.cap_offset)) {
            if (capability.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP)
                areas = sparse_areas(capability.body);
            else if (capability.id == VFIO_REGION_INFO_CAP_MSIX_MAPPABLE)
                region.msix_mappable = true;
        }
    if ((info.flags & VFIO_REGION_INFO_FLAG_MMAP) != 0)
        region.areas = checked_areas(std::move(areas), info.size);
    return region;
}

} // namespace

Device::Device(const Session& session, Opened opened)
    : session_{session}, kernel_{session.kernel()}, opened_{std::move(opened)} {}

Result<std::unique_ptr<Device>> Device::open(Session& session, const OpenOptions& options) {
    auto opened =
        TRY(session.open(options)); // before new: a TRY that returns inside new leaks the memory that new allocated
    std::unique_ptr<Device> device{new Device{session, std::move(opened)}};
    TRY_VOID(device->read_info());
    log::write(log::Level::info, "%s opened by the %s interface, %s", device->name().c_str(),
               backend_name(device->backend()), device->dma().name().c_str());
    return device;
}

Device::~Device() {
    for (unsigned i = 0; i < interrupt_count; ++i)
        if (enabled_[i])
            static_cast<void>(disable(static_cast<Interrupt>(i)));
}

Result<void> Device::read_info() {
    vfio_device_info info{};
    info.argsz = sizeof info;
    if (const int error = kernel_.device_info(fd(), info); error < 0)
        return failed(error, "asking what " + name() + " is");
    if ((info.flags & VFIO_DEVICE_FLAGS_PCI) == 0)
        return fail(Errc::unsupported, name() + " is not a PCI device", "only PCI devices can be assigned");
    can_reset_ = (info.flags & VFIO_DEVICE_FLAGS_RESET) != 0;
    TRY_VOID(read_regions(info.num_regions));
    return read_interrupts(info.num_irqs);
}

Result<void> Device::read_regions(unsigned count) {
    for (unsigned index = 0; index < std::min(count, region_count); ++index) {
        vfio_region_info ask{};
        ask.index = index;
        int error = 0;
        const auto answer = ask_with_capabilities(
            sizeof ask, std::as_bytes(std::span{&ask, 1}),
            [&](auto buffer) { return kernel_.region_info(fd(), buffer); }, error);
        if (error == -EINVAL && index != region_config)
            continue; // the device has no such region
        if (error < 0)
            return failed(error, format("asking for region %u of %s", index, name().c_str()));
        regions_.at(index) = region_from(answer);
    }
    if (regions_[region_config].size < 64)
        return fail(Errc::host_error, name() + " has no configuration space");
    return {};
}

Result<void> Device::read_interrupts(unsigned count) {
    for (unsigned index = 0; index < std::min(count, interrupt_count); ++index) {
        vfio_irq_info info{};
        info.argsz = sizeof info;
        info.index = index;
        const int error = kernel_.irq_info(fd(), info);
        if (error == -EINVAL)
            continue;
        if (error < 0)
            return failed(error, format("asking for interrupts %u of %s", index, name().c_str()));
        if ((info.flags & VFIO_IRQ_INFO_EVENTFD) != 0)
            interrupts_.at(index) = {info.count, (info.flags & VFIO_IRQ_INFO_MASKABLE) != 0,
                                     (info.flags & VFIO_IRQ_INFO_AUTOMASKED) != 0,
                                     (info.flags & VFIO_IRQ_INFO_NORESIZE) == 0};
    }
    return {};
}

bool Device::read(unsigned index, std::uint64_t offset, std::span<std::byte> out) const noexcept {
    const auto& region = regions_[index];
    const bool inside = region.readable && offset <= region.size && out.size() <= region.size - offset;
    if (inside && kernel_.read(fd(), region.file_offset + offset, out) == static_cast<std::int64_t>(out.size()))
        return true;
    std::ranges::fill(out, std::byte{0xff});
    return false;
}

bool Device::write(unsigned index, std::uint64_t offset, std::span<const std::byte> in) const noexcept {
    const auto& region = regions_[index];
    const bool inside = region.writable && offset <= region.size && in.size() <= region.size - offset;
    return inside && kernel_.write(fd(), region.file_offset + offset, in) == static_cast<std::int64_t>(in.size());
}

Result<Mapping> Device::map(unsigned index, RegionArea part) const {
    const auto& region = regions_.at(index);
    const bool allowed = std::ranges::any_of(region.areas, [&](const RegionArea& area) {
        return part.offset >= area.offset && part.offset - area.offset <= area.size &&
               part.size <= area.size - (part.offset - area.offset);
    });
    if (!allowed || part.size == 0 || !is_aligned(part.offset, page_size))
        return fail(Errc::internal, format("this part of region %u of %s cannot be mapped", index, name().c_str()));
    const int protection = (region.readable ? PROT_READ : 0) | (region.writable ? PROT_WRITE : 0);
    return kernel_.map(fd(), region.file_offset + part.offset, part.size, protection);
}

// Interrupts

Result<void> Device::set_irqs(Interrupt kind, std::uint32_t flags, unsigned start, unsigned count,
                              std::span<const int> fds, const char* what) {
    vfio_irq_set set{};
    constexpr std::size_t header = offsetof(vfio_irq_set, data);
    std::vector<std::byte> buffer(header + fds.size_bytes());
    set.argsz = static_cast<std::uint32_t>(buffer.size());
    set.flags = flags;
    set.index = static_cast<std::uint32_t>(kind);
    set.start = start;
    set.count = count;
    std::memcpy(buffer.data(), &set, header);
    std::ranges::copy(std::as_bytes(fds), buffer.begin() + static_cast<std::ptrdiff_t>(header));
    if (const int error = kernel_.set_irqs(fd(), buffer); error < 0)
        return failed(error, format("%s of %s", what, name().c_str()));
    return {};
}

Result<void> Device::enable(Interrupt kind, unsigned start, std::span<const int> fds) {
    const auto total = interrupt(kind).count;
    if (fds.empty() || start > total || fds.size() > total - start)
        return fail(Errc::internal, format("%s has only %u interrupts of this kind", name().c_str(), total));
    TRY_VOID(set_irqs(kind, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, start,
                      static_cast<unsigned>(fds.size()), fds, "turning on interrupts"));
    enabled_.at(static_cast<std::size_t>(kind)) = true;
    return {};
}

Result<void> Device::disable(Interrupt kind) {
    enabled_.at(static_cast<std::size_t>(kind)) = false;
    return set_irqs(kind, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, {}, "turning off interrupts");
}

Result<void> Device::trigger(Interrupt kind, unsigned start, unsigned count) {
    return set_irqs(kind, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, start, count, {},
                    "triggering interrupts");
}

Result<void> Device::unmask_intx() {
    return set_irqs(Interrupt::intx, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, {}, "unmasking INTx");
}

Result<void> Device::unmask_intx_on(int fd) {
    return set_irqs(Interrupt::intx, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, {&fd, 1},
                    "unmasking INTx by an event");
}

} // namespace inox::devices::vfio
