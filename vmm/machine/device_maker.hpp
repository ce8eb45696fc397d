// SPDX-License-Identifier: Apache-2.0
// From the options of a device to the device: its host's side first, before there is a VM; then what the bus gets.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "devices/virtio/device.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/config/config.hpp"
#include "vmm/machine/machine_events.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::devices::virtio {
class NetFilter;
}

namespace inox {

struct NewDevice;
struct PlatformParts;

/// The host's side of one device. Assigned devices have none: they are opened when KVM is there to be told of them.
struct OpenedDevice {
    std::shared_ptr<devices::virtio::Device> virtio{};
    std::shared_ptr<void> host{}; ///< of another kind: what its make() casts to
};

/// What a network interface passes its frames through; null for most. Where devices are opened.
using NetFilters = std::function<Result<std::shared_ptr<devices::virtio::NetFilter>>(const std::string& id)>;

struct OpeningContext {
    EventLoop& loop;
    const GuestMemory& memory;
    ConsolePeer* console{};   ///< of the virtio console; null: what it prints is not taken
    NetFilters net_filters{}; ///< empty: none
};

/// How a machine gets a device of a kind. Each kind defines these in kinds/; without them the program does not link. On
/// the loop's thread, or before it runs.
template <class Options> struct Maker {
    /// Opens images, taps, sockets. Any thread that is EventLoop::Apart, too.
    static Result<OpenedDevice> open(const Options& options, const OpeningContext& context);
    static Result<NewDevice> make(const Options& options, OpenedDevice opened, PlatformParts& parts);
    /// About so many of the process's descriptors it takes once a driver uses it.
    static std::size_t descriptors(const Options& options);
};

Result<OpenedDevice> open_device(const DeviceConfig& device, const OpeningContext& context);
/// All of a configuration, in the order of placed_devices().
Result<std::vector<OpenedDevice>> open_devices(const Config& config, const OpeningContext& context);
Result<NewDevice> make_device(const DeviceConfig& device, OpenedDevice opened, PlatformParts& parts);

/// Descriptors of a virtio device. Counted in /proc/PID/fd of machines with one device of each kind.
constexpr std::size_t virtio_descriptors(std::size_t queues) {
    constexpr std::size_t device = 8; // its files, its interrupt for changes, what watches them
    constexpr std::size_t queue = 3;  // doorbell, who watches it, interrupt
    return device + queue * queues;
}
/// Of a device with few queues.
inline constexpr std::size_t usual_descriptors = virtio_descriptors(3);

} // namespace inox
