// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/platform.hpp"

#include <utility>

#include "devices/acpi_power.hpp"
#include "devices/cmos.hpp"
#include "devices/debug_ports.hpp"
#include "devices/i8042.hpp"
#include "devices/pci/root_bus.hpp"
#include "devices/serial.hpp"
#include "vmm/memory/layout.hpp"

namespace vmm {

struct Platform::Devices {
    std::shared_ptr<devices::Serial> serial;
    std::shared_ptr<devices::I8042> keyboard;
    std::unique_ptr<devices::pci::RootBus> pci;
};

Platform::Platform(std::unique_ptr<Devices> devices) : devices_{std::move(devices)} {}
Platform::~Platform() = default;

Result<std::unique_ptr<Platform>> Platform::create(const Context& context) {
    auto [ports, mmio, irqs, doorbells, memory, loop, events, output, room] = context;
    (void)doorbells;
    auto own = std::make_unique<Devices>();

    own->serial = std::make_shared<devices::Serial>(TRY(irqs.line(layout::gsi_serial, TriggerMode::edge)), output);
    own->serial->on_input_room([&loop = context.loop, room = context.serial_room] { loop.post(room); });
    TRY_VOID(ports.add(layout::port_serial, own->serial));

    own->keyboard = std::make_shared<devices::I8042>(TRY(irqs.line(layout::gsi_keyboard, TriggerMode::edge)), events);
    TRY_VOID(ports.add(devices::I8042::ports, own->keyboard));

    const auto below_4g = memory.regions().front().range.size();
    TRY_VOID(ports.add(layout::port_cmos, std::make_shared<devices::Cmos>(below_4g, memory.size() - below_4g)));
    TRY_VOID(ports.add(layout::port_acpi, std::make_shared<devices::AcpiPower>(events)));
    TRY_VOID(ports.add(devices::DebugPorts::ports, std::make_shared<devices::DebugPorts>(events)));
    TRY_VOID(mmio.add(devices::BootTimer::mmio, std::make_shared<devices::BootTimer>(events)));

    own->pci = TRY(devices::pci::RootBus::create(mmio, ports, events));
    return std::unique_ptr<Platform>{new Platform{std::move(own)}};
}

std::size_t Platform::serial_input(std::span<const std::byte> bytes) { return devices_->serial->receive(bytes); }
void Platform::send_ctrl_alt_del() { devices_->keyboard->send_ctrl_alt_del(); }

} // namespace vmm
