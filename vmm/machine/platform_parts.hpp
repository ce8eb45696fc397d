// SPDX-License-Identifier: Apache-2.0
// What the platform owns; for its own files only.
#pragma once

#include <memory>
#include <vector>

#include "devices/acpi_power.hpp"
#include "devices/i8042.hpp"
#include "devices/pci/root_bus.hpp"
#include "devices/serial.hpp"
#include "devices/virtio/mmio_transport.hpp"
#include "iommu/pasid/pasid_requests.hpp"
#include "vmm/machine/assigned_devices.hpp"
#include "vmm/machine/platform.hpp"

namespace inox {

struct Platform::Devices {
    std::unique_ptr<AssignedDevices> assigned; ///< none was asked for so far: null; outlives its functions on the bus
    /// Null without PASIDs or IOMMU; first, because the IOMMU device on the bus uses it to its end.
    std::unique_ptr<iommu::PasidRequests> pasid_requests;
    std::shared_ptr<devices::Serial> serial;
    std::shared_ptr<devices::I8042> keyboard;
    std::shared_ptr<devices::AcpiPower> power;
    std::unique_ptr<devices::pci::RootBus> pci;
    std::vector<std::shared_ptr<devices::virtio::MmioTransport>> mmio;
    std::vector<boot::AcpiMmioDevice> mmio_plan;
    std::shared_ptr<devices::virtio::Console> console;
    std::shared_ptr<devices::dsa::DsaFunction> dsa;
};

} // namespace inox
