// SPDX-License-Identifier: Apache-2.0
// What the platform owns, for the makers of devices in kinds/.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "vmm/machine/platform.hpp"

namespace inox::devices {
class AcpiPower;
class I8042;
class Serial;
} // namespace inox::devices

namespace inox::devices::pci {
class RootBus;
}

namespace inox::devices::virtio {
class MmioTransport;
}

namespace inox::iommu {
class PasidRequests;
}

namespace inox {

class AssignedDevices;

/// On the loop's thread, or before it runs.
struct PlatformParts {
    explicit PlatformParts(const PlatformContext& context);
    ~PlatformParts();
    PlatformParts(const PlatformParts&) = delete;
    PlatformParts& operator=(const PlatformParts&) = delete;

    /// Makes `assigned` when the first one is asked for. A balloon keeps its pages from then on: the host's device may
    /// write to them.
    AssignedDevices& use_assigned();
    /// For an assigned device: hands what the host says of it to on_host_event.
    std::function<void(const devices::vfio::HostDeviceEvent& event)> listener(DeviceName name) const;

    const PlatformContext context;
    std::unique_ptr<AssignedDevices> assigned; ///< none was asked for so far: null; outlives its functions on the bus
    /// What the host says of an assigned device.
    std::function<void(const DeviceName& name, const devices::vfio::HostDeviceEvent& event)> on_host_event;
    /// Null without PASIDs or IOMMU; before the bus, because the IOMMU device there uses it to its end.
    std::unique_ptr<iommu::PasidRequests> pasid_requests;
    /// What is at fixed places, by the names that snapshots have for it; `serial` to `power` among them.
    std::vector<std::pair<const char*, std::shared_ptr<Stateful>>> fixed;
    std::shared_ptr<devices::Serial> serial;
    std::shared_ptr<devices::I8042> keyboard;
    std::shared_ptr<devices::AcpiPower> power;
    std::unique_ptr<devices::pci::RootBus> pci; ///< null: virtio-mmio
    std::vector<std::shared_ptr<devices::virtio::MmioTransport>> mmio;
    std::vector<boot::AcpiMmioDevice> mmio_plan;
    std::shared_ptr<devices::virtio::Console> console;
    std::weak_ptr<devices::virtio::Balloon> balloon;
    std::shared_ptr<devices::dsa::DsaFunction> dsa;
};

} // namespace inox
