// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/platform.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "devices/acpi_power.hpp"
#include "devices/cmos.hpp"
#include "devices/debug_ports.hpp"
#include "devices/pvpanic.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/boot/cmdline.hpp"
#include "vmm/machine/platform_parts.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {

namespace {

// ISA interrupts that nothing else of the machine uses, then those PCI would have.
constexpr std::array<unsigned, max_mmio_devices> mmio_gsis{5,  6,  7,  10, 11, 12, 13, 14, 15,
                                                           16, 17, 18, 19, 20, 21, 22, 23};

} // namespace

std::vector<boot::AcpiMmioDevice> plan_virtio_mmio(const Config& config) {
    std::vector<boot::AcpiMmioDevice> plan;
    if (config.machine.transport == Transport::mmio)
        for (std::size_t i = 0; i < std::min(virtio_device_count(config), mmio_gsis.size()); ++i)
            plan.push_back(
                {*Range<Gpa>::sized(layout::mmio_devices.start() + (i + 1) * page_size, page_size), mmio_gsis[i]});
    return plan;
}

std::string kernel_cmdline(const Config& config) {
    const auto own = boot::without_cmdline_word(config.boot.cmdline, unusable_word);
    std::string words = machine_cmdline(config);
    for (const auto& device : plan_virtio_mmio(config))
        words += format("%svirtio_mmio.device=4K@%#llx:%u", words.empty() ? "" : " ", hex(device.registers.start()),
                        device.gsi);
    return boot::with_cmdline_words(own, words);
}

Platform::Platform(std::unique_ptr<Devices> devices, const PlatformContext& context)
    : context_{context}, devices_{std::move(devices)}, table_{context.loop, context.events} {}
Platform::~Platform() { stop(); }

Result<std::unique_ptr<Platform>> Platform::create(const Config& config, std::vector<OpenedDevice> opened,
                                                   const PlatformContext& context) {
    std::unique_ptr<Platform> platform{new Platform{std::make_unique<Devices>(), context}};
    TRY_VOID(platform->add_legacy());
    auto& own = *platform->devices_;
    if (config.machine.transport == Transport::pci) {
        own.pci = TRY(devices::pci::RootBus::create(context.mmio, context.ports, context.guest, context.windows));
        TRY_VOID(platform->table_.use(*own.pci, context.ports, context.irqs));
        if (context.iommu)
            TRY_VOID(platform->add_iommu());
    }
    own.mmio_plan = plan_virtio_mmio(config);
    if (!config.vfio.empty() && own.pci) {
        platform->prepare_assigned();
        TRY_VOID(placed(own.assigned->open(config.vfio), "/vfio"));
    }
    auto one = opened.begin();
    for (const auto& device : placed_devices(config))
        TRY(placed(platform->add_opened(device.config, std::move(*one++)), device.where));
    // Beside the host bridge it takes no slot, and behind all others its BAR moves none of theirs.
    if (own.pci) {
        auto pvpanic = TRY(devices::PvPanicFunction::create(context.guest));
        TRY(own.pci->add(std::move(pvpanic), devices::pci::Address{0, 1}));
    }
    return platform;
}

Result<void> Platform::add_legacy() {
    auto& ports = context_.ports;
    auto& irqs = context_.irqs;
    auto& guest = context_.guest;
    auto& own = *devices_;
    own.serial = std::make_shared<devices::Serial>(
        TRY(irqs.line(layout::gsi_serial, TriggerMode::edge)),
        [&serial = context_.serial](std::span<const std::byte> bytes) { serial.serial_output(bytes); });
    own.serial->on_input_room(
        [&loop = context_.loop, &console = context_.console] { loop.post([&console] { console.on_input_room(); }); });
    TRY_VOID(ports.add(layout::port_serial, own.serial));

    own.keyboard = std::make_shared<devices::I8042>(TRY(irqs.line(layout::gsi_keyboard, TriggerMode::edge)), guest);
    TRY_VOID(ports.add(devices::I8042::ports, own.keyboard));

    const auto below_4g = context_.memory.regions().front().range.size();
    TRY_VOID(
        ports.add(layout::port_cmos, std::make_shared<devices::Cmos>(below_4g, context_.memory.size() - below_4g)));
    own.power = std::make_shared<devices::AcpiPower>(guest, TRY(irqs.line(layout::gsi_ged, TriggerMode::edge)));
    TRY_VOID(ports.add(layout::port_acpi, own.power));
    TRY_VOID(ports.add(layout::port_pvpanic, std::make_shared<devices::PvPanic>(guest)));
    TRY_VOID(ports.add(devices::DebugPorts::ports, std::make_shared<devices::DebugPorts>(guest)));
    return context_.mmio.add(devices::BootTimer::mmio, std::make_shared<devices::BootTimer>(guest));
}

void Platform::stop() {
    if (devices_->assigned)
        devices_->assigned->stop();
}

void Platform::guest_starts() {
    table_.guest_starts();
    if (devices_->assigned)
        devices_->assigned->guest_starts();
}

std::size_t Platform::serial_input(std::span<const std::byte> bytes) { return devices_->serial->receive(bytes); }
devices::virtio::Console* Platform::console() const { return devices_->console.get(); }
void Platform::press_power_button() {
    devices_->power->press_button();
    remind_of_button();
}

void Platform::remind_of_button() {
    button_reminder_ = context_.loop.after(std::chrono::seconds{1}, [this] {
        if (devices_->power->remind())
            remind_of_button();
    });
}

void Platform::send_ctrl_alt_del() { devices_->keyboard->send_ctrl_alt_del(); }

} // namespace inox
