// SPDX-License-Identifier: Apache-2.0
// A driver of a whole device: one VirtqueueDriver a queue, and the steps from reset to DRIVER_OK without a transport.
#pragma once

#include <deque>

#include "tests/fakes/virtqueue_driver.hpp"

namespace inox::fakes {

class VirtioDriver {
public:
    explicit VirtioDriver(std::uint64_t ram_size = 16 * MiB, HugePages pages = HugePages::none)
        : ram{ram_size, pages} {}

    /// `sizes`: ring sizes, one a queue; 0 leaves the queue disabled. The device's own when empty.
    void activate(devices::virtio::Device& device, std::uint64_t features, std::vector<std::uint16_t> sizes = {},
                  const DmaMemory* memory = nullptr);
    /// The same in two steps: chains can be posted in between.
    void prepare(devices::virtio::Device& device, std::uint64_t features, std::vector<std::uint16_t> sizes = {},
                 const DmaMemory* memory = nullptr);
    void start(devices::virtio::Device& device) { device.activate(*bus_, std::move(rings_), features_, notifier); }
    /// `device` takes the place of the one that was active: where it was in the rings comes with its state.
    void restore(devices::virtio::Device& device);
    VirtqueueDriver& operator[](std::size_t index) { return queues[index]; }

    TestRam ram;
    std::deque<VirtqueueDriver> queues{};
    RecordingNotifier notifier{};

private:
    const DmaMemory* bus_{};
    std::uint64_t features_{};
    std::vector<std::uint16_t> sizes_{};
    std::vector<std::optional<devices::virtio::Queue>> rings_{};

    void clear_rings(std::uint16_t size);
};

} // namespace inox::fakes
