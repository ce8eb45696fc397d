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
#include "devices/pvpanic.hpp"
#include "devices/serial.hpp"
#include "devices/vfio/host_event.hpp"
#include "devices/virtio/balloon.hpp"
#include "devices/virtio/block/block.hpp"
#include "devices/virtio/mmio_transport.hpp"
#include "devices/virtio/net/net.hpp"
#include "devices/virtio/pci_transport.hpp"
#include "iommu/pasid/pasid_requests.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/state.hpp"
#include "vmm/boot/cmdline.hpp"
#include "vmm/machine/assigned_devices.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/platform_parts.hpp"
#include "vmm/machine/preparation.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {

namespace {

// ISA interrupts that nothing else of the machine uses, then those that PCI would use.
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

PlatformParts::PlatformParts(const PlatformContext& given) : context{given} {}
PlatformParts::~PlatformParts() = default;

AssignedDevices& PlatformParts::use_assigned() {
    if (assigned)
        return *assigned;
    assigned = std::make_unique<AssignedDevices>(AssignedContext{.irqs = context.irqs,
                                                                 .mappings = context.mappings,
                                                                 .loop = context.loop,
                                                                 .memory = context.memory,
                                                                 .iommu = context.iommu,
                                                                 .add_to_kvm = context.add_vfio_file,
                                                                 .pasids = context.pasids,
                                                                 .kernel = context.vfio_kernel,
                                                                 .root = context.vfio_root});
    if (const auto device = balloon.lock())
        device->pin_memory();
    return *assigned;
}

std::function<void(const devices::vfio::HostDeviceEvent&)> PlatformParts::listener(DeviceName name) const {
    return [this, name = std::move(name)](const devices::vfio::HostDeviceEvent& event) { on_host_event(name, event); };
}

Platform::Platform(const PlatformContext& context)
    : context_{context}, parts_{std::make_unique<PlatformParts>(context)}, table_{context.loop, context.events},
      beside_{context.loop} {
    parts_->on_host_event = [this](const DeviceName& name, const devices::vfio::HostDeviceEvent& event) {
        on_assigned_event(name, event);
    };
}
Platform::~Platform() { stop(); }

Result<std::unique_ptr<Platform>> Platform::create(const Config& config, std::vector<OpenedDevice> opened,
                                                   const PlatformContext& context) {
    std::unique_ptr<Platform> platform{new Platform{context}};
    TRY_VOID(platform->add_legacy());
    auto& own = *platform->parts_;
    if (config.machine.transport == Transport::pci) {
        own.pci = TRY(devices::pci::RootBus::create(context.mmio, context.ports, context.guest, context.windows));
        TRY_VOID(platform->table_.use(*own.pci, context.ports, context.irqs));
    }
    own.mmio_plan = plan_virtio_mmio(config);
    if (const auto assigned = devices_of<VfioConfig>(config); !assigned.empty() && own.pci)
        TRY_VOID(placed(own.use_assigned().open(assigned), "/vfio"));
    auto one = opened.begin();
    for (const auto& device : placed_devices(config))
        TRY_VOID(placed(platform->add_opened(*device.config, std::move(*one++)), device.where));
    // Pvpanic shares the host bridge's slot, so it needs none. It comes last, so that its BAR moves no other one.
    if (own.pci) {
        auto pvpanic = TRY(devices::PvPanicFunction::create(context.guest));
        TRY_VOID(own.pci->add(std::move(pvpanic), devices::pci::Address{0, 1}));
    }
    return platform;
}

Result<void> Platform::add_legacy() {
    auto& ports = context_.ports;
    auto& irqs = context_.irqs;
    auto& guest = context_.guest;
    auto& own = *parts_;
    own.serial = std::make_shared<devices::Serial>(
        TRY(irqs.line(layout::gsi_serial, TriggerMode::edge)),
        [&serial = context_.serial](std::span<const std::byte> bytes) { serial.serial_output(bytes); });
    own.serial->on_input_room(
        [&loop = context_.loop, &console = context_.console] { loop.post([&console] { console.on_input_room(); }); });
    TRY_VOID(ports.add(layout::port_serial, own.serial));

    own.keyboard = std::make_shared<devices::I8042>(TRY(irqs.line(layout::gsi_keyboard, TriggerMode::edge)), guest);
    TRY_VOID(ports.add(devices::I8042::ports, own.keyboard));

    const auto below_4g = context_.memory.regions().front().range.size();
    const auto cmos = std::make_shared<devices::Cmos>(below_4g, context_.memory.size() - below_4g);
    TRY_VOID(ports.add(layout::port_cmos, cmos));
    own.power = std::make_shared<devices::AcpiPower>(guest, TRY(irqs.line(layout::gsi_ged, TriggerMode::edge)));
    TRY_VOID(ports.add(layout::port_acpi, own.power));
    const auto panic = std::make_shared<devices::PvPanic>(guest);
    TRY_VOID(ports.add(layout::port_pvpanic, panic));
    const auto debug = std::make_shared<devices::DebugPorts>(guest);
    TRY_VOID(ports.add(devices::DebugPorts::ports, debug));
    const auto timer = std::make_shared<devices::BootTimer>(guest);
    own.fixed = {{"serial", own.serial}, {"keyboard", own.keyboard}, {"cmos", cmos},       {"acpi", own.power},
                 {"pvpanic", panic},     {"debug_ports", debug},     {"boot_timer", timer}};
    return context_.mmio.add(devices::BootTimer::mmio, timer);
}

void Platform::stop() {
    beside_.stop();
    if (parts_->assigned)
        parts_->assigned->stop();
}

void Platform::guest_starts() {
    table_.guest_starts();
    if (parts_->assigned)
        parts_->assigned->guest_starts();
}

std::size_t Platform::serial_input(std::span<const std::byte> bytes) { return parts_->serial->receive(bytes); }
devices::virtio::Console* Platform::console() const { return parts_->console.get(); }
void Platform::press_power_button() {
    parts_->power->press_button();
    remind_of_button();
}

void Platform::remind_of_button() {
    button_reminder_ = context_.loop.after(std::chrono::seconds{1}, [this] {
        if (parts_->power->remind())
            remind_of_button();
    });
}

void Platform::send_ctrl_alt_del() { parts_->keyboard->send_ctrl_alt_del(); }

// From a device's configuration to the device on its bus

/// Called before anything is opened: a second device of one name must not disturb the first.
Result<void> Platform::check_name(const DeviceName& name) const {
    if (name.kind == kind_of<VfioConfig> && parts_->assigned && parts_->assigned->making(name.id))
        return fail(Errc::already_exists, "there is already: " + name.text(), "give the new one another id");
    return table_.check_free(name);
}

void Platform::add_later(const DeviceConfig& config, Added done) {
    if (const auto* assigned = std::get_if<VfioConfig>(&config); assigned && parts_->pci)
        return add_assigned_later(*assigned, std::move(done));
    const auto opened = std::make_shared<Result<OpenedDevice>>(fail(Errc::internal, "nothing was opened"));
    auto begin = [this, config, opened]() -> Result<BesideLoop::Work> {
        TRY_VOID(may_add(device_name(config)));
        NetFilters filters; // made of what is the loop's
        if (const auto* net = std::get_if<devices::virtio::NetOptions>(&config); net && context_.net_filters)
            filters = [filter = TRY(context_.net_filters(net->id))](const std::string& /*id*/) { return filter; };
        return [this, config, opened, filters = std::move(filters)] {
            *opened = open_device(config, {.loop = context_.loop, .memory = context_.memory, .net_filters = filters});
        };
    };
    beside_.run(std::move(begin), [this, config, opened, done = std::move(done)](Result<void> ready) mutable {
        auto add = [&]() -> Result<DeviceStatus> {
            TRY_VOID(std::move(ready));
            return add_opened(config, TRY(std::move(*opened)));
        };
        done(add());
    });
}

void Platform::replace_image(std::shared_ptr<devices::virtio::Block> disk, const std::string& path, Done done) {
    using devices::virtio::BlockFile;
    const auto other = std::make_shared<Result<std::shared_ptr<BlockFile>>>();
    auto begin = [disk, path, other]() -> Result<BesideLoop::Work> {
        if (disk->has_image(path))
            return [] {};
        return [path, other, options = disk->options()] { *other = devices::virtio::Block::open_other(options, path); };
    };
    beside_.run(std::move(begin), [disk, path, other, done = std::move(done)](Result<void> ready) mutable {
        auto replace = [&]() -> Result<void> {
            TRY_VOID(std::move(ready));
            return disk->replace(path, TRY(std::move(*other)));
        };
        done(replace());
    });
}

void Platform::add_assigned_later(const VfioConfig& config, Added done) {
    DeviceName name = device_name(config);
    if (auto free = check_name(name); !free)
        return done(std::unexpected{std::move(free).error()});
    auto place = table_.promise_slot();
    if (!place)
        return done(std::unexpected{std::move(place).error()});
    const auto where = place->where;
    auto listener = parts_->listener(name);
    auto& assigned = parts_->use_assigned();
    assigned.guest_starts(); // also when this device is the first of its kind
    assigned.make_later(
        config, where, std::move(listener),
        [this, name = std::move(name), place = std::move(*place), done = std::move(done)](auto made) mutable {
            if (!made)
                return done(std::unexpected{std::move(made).error()});
            done(add_to_pci({.name = std::move(name), .function = std::move(*made), .where = place.where}));
        });
}

bool Platform::cancel(const DeviceName& name) {
    return name.kind == kind_of<VfioConfig> && parts_->assigned && parts_->assigned->cancel(name.id);
}

Result<void> Platform::may_add(const DeviceName& name) const {
    TRY_VOID(check_name(name));
    if (is_single(name.kind))
        for (const DeviceStatus& other : table_.list())
            if (other.name.kind == name.kind)
                return fail(Errc::already_exists, "there is already: " + other.name.text(), "a machine has one");
    return {};
}

Result<DeviceStatus> Platform::add(const DeviceConfig& config) {
    TRY_VOID(may_add(device_name(config)));
    return add_opened(
        config, TRY(open_device(
                    config, {.loop = context_.loop, .memory = context_.memory, .net_filters = context_.net_filters})));
}

Result<DeviceStatus> Platform::add_opened(const DeviceConfig& config, OpenedDevice opened) {
    NewDevice device = TRY(make_device(config, std::move(opened), *parts_));
    device.name = device_name(config);
    for (const auto& [name, where] : context_.places)
        if (name == device.name && !device.where)
            device.where = where;
    if (device.device)
        device.device->on_broken(
            [&loop = context_.loop, &events = context_.events, who = device.name](const char* reason) {
                loop.post([&events, who, what = std::string{reason}] { events.on_device_error(who, what); });
            });
    return parts_->pci ? add_to_pci(std::move(device)) : add_to_mmio(device);
}

/// The host asks again every few seconds: a guest that has not released the device by then loses it.
void Platform::on_assigned_event(const DeviceName& name, const devices::vfio::HostDeviceEvent& event) {
    using What = devices::vfio::HostDeviceEvent::What;
    if (event.what == What::failed)
        table_.report_failure(name, event.text);
    if (event.what != What::asked_back)
        return;
    const auto all = table_.list();
    const auto device = std::ranges::find(all, name, &DeviceStatus::name);
    if (device == all.end())
        return;
    const bool asked = device->state == DeviceState::ejecting;
    if (const auto removed = table_.remove(name, asked ? Removal::forced : Removal::asked); !removed)
        log::write(log::Level::error, "%s: %s", name.text().c_str(), removed.error().message().c_str());
}

Result<DeviceStatus> Platform::add_to_pci(NewDevice device) {
    if (!device.function)
        device.function = TRY(devices::virtio::PciTransport::create(
            device.device, {context_.irqs, context_.doorbells, context_.dma, context_.loop, context_.iommu}));
    return table_.add(std::move(device));
}

Result<DeviceStatus> Platform::add_to_mmio(const NewDevice& device) {
    const auto index = parts_->mmio.size();
    if (index >= parts_->mmio_plan.size())
        return fail(Errc::no_resource,
                    format("a machine without PCI has room for the %zu virtio devices it starts with", index),
                    "start it with PCI (--enable-pci)", NoRoom{false});
    const auto& place = parts_->mmio_plan[index];
    auto transport = TRY(devices::virtio::MmioTransport::create(
        device.device, {context_.irqs, context_.doorbells, context_.dma, context_.loop}, place.registers, place.gsi));
    TRY_VOID(context_.mmio.add(place.registers, transport));
    parts_->mmio.push_back(std::move(transport));
    TRY_VOID(table_.add_fixed(device.name, device.device));
    return DeviceStatus{device.name};
}

// Snapshots

template <class F> void Platform::each_fixed(F&& call) const {
    for (const auto& [name, part] : parts_->fixed)
        call(std::string{name}, *part);
    if (auto* hotplug = table_.registers())
        call("hotplug", *hotplug);
    for (std::size_t i = 0; i < parts_->mmio.size(); ++i)
        call("virtio_mmio" + std::to_string(i), *parts_->mmio[i]);
}

std::optional<std::string> Platform::unsaveable() const {
    std::optional<std::string> why;
    if (parts_->assigned)
        why = "it has an assigned device, whose state is in its hardware";
    each_fixed([&](const std::string& /*name*/, const Stateful& part) { why = why ? why : part.unsaveable(); });
    if (!why && parts_->pci)
        why = parts_->pci->unsaveable();
    return why;
}

bool Platform::drain() noexcept {
    bool quiet = parts_->pci ? parts_->pci->drain() : true;
    each_fixed([&](const std::string& /*name*/, Stateful& part) { quiet &= part.drain(); });
    return quiet;
}

void Platform::resume() noexcept {
    each_fixed([&](const std::string& /*name*/, Stateful& part) { part.resume(); });
    if (parts_->pci)
        parts_->pci->resume();
}

void Platform::state(State& state) {
    state.version(1);
    each_fixed([&](const std::string& name, Stateful& part) {
        state.part(name.c_str(), [&](State& inner) { part.state(inner); });
    });
    if (parts_->pci)
        state.part("pci", [&](State& inner) { parts_->pci->state(inner); });
}

void Platform::tell_new_time(bool forked) noexcept {
    parts_->power->tell_new_time(forked);
    remind_of_button();
}

std::shared_ptr<devices::virtio::Block> Platform::disk(const std::string& id) const {
    return std::static_pointer_cast<devices::virtio::Block>(table_.device({kind_of<DriveConfig>, id}));
}
std::shared_ptr<devices::dsa::DsaFunction> Platform::dsa() const { return parts_->dsa; }
std::shared_ptr<devices::virtio::Net> Platform::net(const std::string& id) const {
    return std::static_pointer_cast<devices::virtio::Net>(table_.device({kind_of<devices::virtio::NetOptions>, id}));
}
std::shared_ptr<devices::virtio::Balloon> Platform::balloon() const {
    const auto device = parts_->balloon.lock();
    for (const DeviceStatus& status : table_.list())
        if (device && status.name.kind == kind_of<devices::virtio::BalloonOptions>)
            return device;
    return nullptr;
}

} // namespace inox
