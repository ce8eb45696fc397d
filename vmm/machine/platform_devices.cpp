// SPDX-License-Identifier: Apache-2.0
// From a device's configuration to the device on its bus.
#include <algorithm>

#include "devices/dsa/forwarder.hpp"
#include "devices/virtio/balloon.hpp"
#include "devices/virtio/iommu.hpp"
#include "devices/virtio/mmio_transport.hpp"
#include "devices/virtio/pci_transport.hpp"
#include "vmm/base/log.hpp"
#include "vmm/machine/platform.hpp"
#include "vmm/machine/platform_parts.hpp"

namespace inox {

/// From an opened device to one for the bus. One overload for each kind of DeviceConfig that is not plain virtio.
struct Platform::Maker {
    Platform& platform;
    OpenedDevice opened;
    const PlatformContext& context{platform.context_};
    Devices& own{*platform.devices_};

    template <class Plain> Result<NewDevice> operator()(const Plain& /*config*/) const {
        return NewDevice{.device = opened.virtio};
    }
    Result<NewDevice> operator()(const DriveConfig& drive) const {
        return NewDevice{.device = opened.virtio, .permanent = drive.root};
    }
    Result<NewDevice> operator()(const devices::virtio::BalloonOptions& /*balloon*/) const {
        if (own.assigned)
            static_cast<devices::virtio::Balloon&>(*opened.virtio).pin_memory();
        return NewDevice{.device = opened.virtio};
    }
    /// Permanent: its other end is this process's terminal or a file that was opened at the start.
    Result<NewDevice> operator()(const ConsoleConfig& /*console*/) const {
        own.console = std::static_pointer_cast<devices::virtio::Console>(opened.virtio);
        return NewDevice{.device = own.console, .permanent = true};
    }
    Result<NewDevice> operator()(const VfioConfig& device) const {
        platform.prepare_assigned();
        return NewDevice{.function = TRY(own.assigned->make(device, teller(device)))};
    }
    [[nodiscard]] AssignedDevices::OnEvent teller(const VfioConfig& device) const {
        return [&platform = platform, name = device_name(device)](const devices::vfio::HostDeviceEvent& event) {
            platform.on_assigned_event(name, event);
        };
    }

    /// Permanent: IA32_PASID and the instructions are there from the first one on.
    Result<NewDevice> operator()(const DsaConfig& dsa) const {
        if (!own.pci || !context.pasids)
            return fail(Errc::wrong_state, "the accelerator needs a machine that was started with it",
                        "start the machine with --dsa, on PCI");
        std::function<std::unique_ptr<devices::dsa::Copier>()> make_copier;
        if (opened.host_queue)
            make_copier = [queue = opened.host_queue] {
                return std::make_unique<devices::dsa::ForwardingCopier>(queue);
            };
        own.dsa = TRY(devices::dsa::DsaFunction::create(
            dsa.shape, {context.irqs, context.dma, context.iommu, context.pasids, std::move(make_copier)}));
        return NewDevice{.function = own.dsa, .permanent = true};
    }
};

/// Before anything is opened: a second one must not disturb the first.
Result<void> Platform::check_name(const DeviceName& name) const {
    if (name.kind == DeviceKind::vfio && devices_->assigned && devices_->assigned->making(name.id))
        return fail(Errc::already_exists, "there is already: " + name.text(), "give the new one another id");
    return table_.check_free(name);
}

void Platform::add_later(const DeviceConfig& config, Added done) {
    const auto* device = std::get_if<VfioConfig>(&config);
    if (!device || !devices_->pci)
        return done(add(config));
    DeviceName name = device_name(config);
    if (auto free = check_name(name); !free)
        return done(std::unexpected{std::move(free).error()});
    prepare_assigned();
    devices_->assigned->make_later(*device, Maker{*this, {}}.teller(*device),
                                   [this, name = std::move(name), done = std::move(done)](auto made) mutable {
                                       if (!made)
                                           return done(std::unexpected{std::move(made).error()});
                                       done(add_to_pci({.name = std::move(name), .function = std::move(*made)}));
                                   });
}

bool Platform::cancel(const DeviceName& name) {
    return name.kind == DeviceKind::vfio && devices_->assigned && devices_->assigned->cancel(name.id);
}

/// To a running machine.
Result<DeviceStatus> Platform::add(const DeviceConfig& config) {
    const DeviceName name = device_name(config);
    TRY_VOID(check_name(name));
    // Drivers know one of these.
    if (name.kind == DeviceKind::vsock || name.kind == DeviceKind::entropy || name.kind == DeviceKind::balloon)
        for (const DeviceStatus& other : table_.list())
            if (other.name.kind == name.kind)
                return fail(Errc::already_exists, "there is already: " + other.name.text(), "a machine has one");
    return add_opened(config, TRY(open_device(config, {context_.loop, context_.memory})));
}

Result<DeviceStatus> Platform::add_opened(const DeviceConfig& config, OpenedDevice opened) {
    NewDevice device = TRY(std::visit(Maker{*this, std::move(opened)}, config));
    device.name = device_name(config);
    if (device.device)
        device.device->on_broken(
            [&loop = context_.loop, &events = context_.events, who = device.name](const char* reason) {
                loop.post([&events, who, what = std::string{reason}] { events.on_device_error(who, what); });
            });
    return devices_->pci ? add_to_pci(std::move(device)) : add_to_mmio(device);
}

/// Permanent: ACPI says that it is there. Not behind itself.
Result<void> Platform::add_iommu() {
    if (context_.pasids)
        devices_->pasid_requests = std::make_unique<iommu::PasidRequests>(*context_.pasids);
    auto device = devices::virtio::Iommu::create(*context_.iommu, context_.loop, devices_->pasid_requests.get());
    auto function = TRY(devices::virtio::PciTransport::create(
        device, {context_.irqs, context_.doorbells, context_.dma, context_.loop}));
    TRY(table_.add({.name = {DeviceKind::iommu, "iommu"},
                    .function = std::move(function),
                    .device = std::move(device),
                    .permanent = true,
                    .where = iommu_address}));
    return {};
}

/// A balloon keeps its pages from now on: the host's device may write to them.
void Platform::prepare_assigned() {
    if (devices_->assigned)
        return;
    devices_->assigned = std::make_unique<AssignedDevices>(AssignedContext{
        context_.irqs, context_.mappings, context_.loop, context_.memory, context_.iommu, context_.add_vfio_file,
        context_.pasids, context_.vfio_kernel ? *context_.vfio_kernel : devices::vfio::Kernel::host(),
        context_.vfio_root});
    if (const auto device = balloon())
        device->pin_memory();
}

/// The host asks again every few seconds: a guest that did not give the device back by then loses it.
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
    const auto index = devices_->mmio.size();
    if (index >= devices_->mmio_plan.size())
        return fail(Errc::no_resource,
                    format("a machine without PCI has room for the %zu virtio devices it starts with", index),
                    "start it with PCI (--enable-pci)", NoRoom{false});
    const auto& place = devices_->mmio_plan[index];
    auto transport = TRY(devices::virtio::MmioTransport::create(
        device.device, {context_.irqs, context_.doorbells, context_.dma, context_.loop}, place.registers, place.gsi));
    TRY_VOID(context_.mmio.add(place.registers, transport));
    devices_->mmio.push_back(std::move(transport));
    TRY_VOID(table_.add_fixed(device.name, device.device));
    return DeviceStatus{device.name};
}

std::shared_ptr<devices::virtio::Block> Platform::disk(const std::string& id) const {
    return std::static_pointer_cast<devices::virtio::Block>(table_.device({DeviceKind::disk, id}));
}
std::shared_ptr<devices::dsa::DsaFunction> Platform::dsa() const { return devices_->dsa; }
std::shared_ptr<devices::virtio::Net> Platform::net(const std::string& id) const {
    return std::static_pointer_cast<devices::virtio::Net>(table_.device({DeviceKind::net, id}));
}
std::shared_ptr<devices::virtio::Balloon> Platform::balloon() const {
    for (const DeviceStatus& device : table_.list())
        if (device.name.kind == DeviceKind::balloon)
            return std::static_pointer_cast<devices::virtio::Balloon>(table_.device(device.name));
    return nullptr;
}

} // namespace inox
