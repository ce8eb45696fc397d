// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/virtio_driver.hpp"

namespace inox::fakes {

void VirtioDriver::activate(devices::virtio::Device& device, std::uint64_t features, std::vector<std::uint16_t> sizes,
                            const DmaMemory* memory) {
    prepare(device, features, std::move(sizes), memory);
    start(device);
}

void VirtioDriver::prepare(devices::virtio::Device& device, std::uint64_t features, std::vector<std::uint16_t> sizes,
                           const DmaMemory* memory) {
    if (sizes.empty())
        sizes.assign(device.queue_sizes().begin(), device.queue_sizes().end());
    bus_ = memory ? memory : &ram.direct;
    features_ = features;
    sizes_ = sizes;
    const bool event_index = (features & devices::virtio::feature::event_index) != 0;
    queues.clear();
    rings_.clear();
    ram.next = 0x100000;
    for (const auto size : sizes) {
        clear_rings(size);
        queues.emplace_back(ram, size == 0 ? std::uint16_t{1} : size);
        rings_.push_back(
            size == 0 ? std::nullopt
                      : std::optional<devices::virtio::Queue>{std::in_place, *bus_, queues.back().layout, event_index});
    }
}

void VirtioDriver::restore(devices::virtio::Device& device) {
    const bool event_index = (features_ & devices::virtio::feature::event_index) != 0;
    std::vector<std::optional<devices::virtio::Queue>> rings;
    for (std::size_t i = 0; i < queues.size(); ++i)
        rings.push_back(sizes_[i] == 0 ? std::nullopt
                                       : std::optional<devices::virtio::Queue>{std::in_place, *bus_, queues[i].layout,
                                                                               event_index});
    device.restore(*bus_, std::move(rings), features_, notifier);
}

void VirtioDriver::clear_rings(std::uint16_t size) {
    const std::vector<std::byte> zero(26U * size + 64);
    (void)ram.memory.write(Gpa{align_up(ram.next, 16)}, zero);
}

} // namespace inox::fakes
