// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/platform.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "devices/acpi_power.hpp"
#include "devices/cmos.hpp"
#include "devices/debug_ports.hpp"
#include "devices/i8042.hpp"
#include "devices/pci/root_bus.hpp"
#include "devices/serial.hpp"
#include "devices/virtio/balloon.hpp"
#include "devices/virtio/entropy.hpp"
#include "devices/virtio/mmio_transport.hpp"
#include "devices/virtio/pci_transport.hpp"
#include "vmm/memory/layout.hpp"

namespace vmm {

namespace {

// ISA interrupts that nothing else of the machine uses, then those PCI would have.
constexpr std::array<unsigned, 18> mmio_gsis{5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 3};

} // namespace

std::vector<boot::AcpiMmioDevice> plan_virtio_mmio(const Config& config) {
    std::vector<boot::AcpiMmioDevice> plan;
    if (config.machine.transport == Transport::mmio)
        for (std::size_t i = 0; i < std::min(virtio_device_count(config), mmio_gsis.size()); ++i)
            plan.push_back(
                {*Range<Gpa>::sized(layout::mmio_devices.start() + (i + 1) * page_size, page_size), mmio_gsis[i]});
    return plan;
}

std::string virtio_mmio_cmdline(const std::vector<boot::AcpiMmioDevice>& plan) {
    std::string text;
    for (const auto& device : plan)
        text += format(" virtio_mmio.device=4K@%#llx:%u",
                       static_cast<unsigned long long>(device.registers.start().raw()), device.gsi);
    return text;
}

struct Platform::Devices {
    std::shared_ptr<devices::Serial> serial;
    std::shared_ptr<devices::I8042> keyboard;
    std::unique_ptr<devices::pci::RootBus> pci;
    std::vector<std::shared_ptr<devices::virtio::MmioTransport>> mmio;
    std::vector<boot::AcpiMmioDevice> mmio_plan;
    std::shared_ptr<devices::virtio::Console> console;
};

Platform::Platform(std::unique_ptr<Devices> devices, const Context& context)
    : context_{context}, devices_{std::move(devices)} {}
Platform::~Platform() = default;

Result<std::unique_ptr<Platform>> Platform::create(const Config& config, const Context& context) {
    std::unique_ptr<Platform> platform{new Platform{std::make_unique<Devices>(), context}};
    TRY_VOID(platform->add_legacy());
    if (config.machine.transport == Transport::pci)
        platform->devices_->pci = TRY(devices::pci::RootBus::create(context.mmio, context.ports, context.events));
    platform->devices_->mmio_plan = plan_virtio_mmio(config);
    TRY_VOID(platform->add_virtio_devices(config));
    return platform;
}

Result<void> Platform::add_legacy() {
    auto& ports = context_.ports;
    auto& irqs = context_.irqs;
    auto& events = context_.events;
    auto& own = *devices_;
    own.serial = std::make_shared<devices::Serial>(TRY(irqs.line(layout::gsi_serial, TriggerMode::edge)),
                                                   context_.serial_output);
    own.serial->on_input_room([&loop = context_.loop, room = context_.serial_room] { loop.post(room); });
    TRY_VOID(ports.add(layout::port_serial, own.serial));

    own.keyboard = std::make_shared<devices::I8042>(TRY(irqs.line(layout::gsi_keyboard, TriggerMode::edge)), events);
    TRY_VOID(ports.add(devices::I8042::ports, own.keyboard));

    const auto below_4g = context_.memory.regions().front().range.size();
    TRY_VOID(
        ports.add(layout::port_cmos, std::make_shared<devices::Cmos>(below_4g, context_.memory.size() - below_4g)));
    TRY_VOID(ports.add(layout::port_acpi, std::make_shared<devices::AcpiPower>(events)));
    TRY_VOID(ports.add(devices::DebugPorts::ports, std::make_shared<devices::DebugPorts>(events)));
    return context_.mmio.add(devices::BootTimer::mmio, std::make_shared<devices::BootTimer>(events));
}

Result<void> Platform::add_virtio_devices(const Config& config) {
    // The root device first: it is then the guest's vda.
    for (const bool root : {true, false})
        for (const auto& drive : config.drives)
            if (drive.root == root) {
                auto disk = TRY(devices::virtio::Block::create(drive.block, context_.loop));
                TRY_VOID(attach(std::move(disk)));
            }
    for (const auto& net : config.nets) {
        auto device = TRY(devices::virtio::Net::create(net, context_.loop));
        TRY_VOID(attach(std::move(device)));
    }
    if (config.vsock) {
        auto device = TRY(devices::virtio::Vsock::create(*config.vsock, context_.loop));
        TRY_VOID(attach(std::move(device)));
    }
    if (config.entropy) {
        auto device = TRY(devices::virtio::Entropy::create(*config.entropy, context_.loop));
        TRY_VOID(attach(std::move(device)));
    }
    if (config.balloon) {
        auto device = TRY(devices::virtio::Balloon::create(*config.balloon, context_.loop, context_.memory));
        TRY_VOID(attach(std::move(device)));
    }
    if (config.console) {
        devices_->console = TRY(devices::virtio::Console::create({}, context_.loop, context_.console_output));
        devices_->console->on_input_room(context_.console_room);
        TRY_VOID(attach(devices_->console));
    }
    for (const auto& share : config.shares) {
        auto device = TRY(devices::virtio::Fs::create(share, context_.loop, context_.memory));
        TRY_VOID(attach(std::move(device)));
    }
    return {};
}

Result<void> Platform::attach(std::shared_ptr<devices::virtio::Device> device) {
    if (devices_->pci) {
        auto function = TRY(devices::virtio::PciTransport::create(
            std::move(device), {context_.irqs, context_.doorbells, context_.dma, context_.loop}));
        TRY(devices_->pci->add(std::move(function)));
        return {};
    }
    const auto index = devices_->mmio.size();
    if (index >= devices_->mmio_plan.size())
        return fail(Errc::no_resource,
                    format("a machine without PCI has room for %zu virtio devices", mmio_gsis.size()),
                    "use fewer devices, or PCI (--enable-pci)");
    const auto& place = devices_->mmio_plan[index];
    auto transport = TRY(devices::virtio::MmioTransport::create(
        std::move(device), {context_.irqs, context_.doorbells, context_.dma, context_.loop}, place.registers,
        place.gsi));
    TRY_VOID(context_.mmio.add(place.registers, transport));
    devices_->mmio.push_back(std::move(transport));
    return {};
}

std::size_t Platform::serial_input(std::span<const std::byte> bytes) { return devices_->serial->receive(bytes); }
devices::virtio::Console* Platform::console() const { return devices_->console.get(); }
void Platform::send_ctrl_alt_del() { devices_->keyboard->send_ctrl_alt_del(); }

} // namespace vmm
