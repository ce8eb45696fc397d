// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/assigned_devices.hpp"

#include <algorithm>
#include <utility>

namespace vmm {

using devices::vfio::Device;
using devices::vfio::PciFunction;

AssignedDevices::AssignedDevices(Context context)
    : context_{std::move(context)}, session_{{.add_to_kvm = context_.add_to_kvm}} {}

AssignedDevices::~AssignedDevices() = default;

Result<void> AssignedDevices::open(std::span<const VfioConfig> devices) {
    for (const auto& device : devices)
        opened_[device.open.id] = TRY(Device::open(session_, device.open));
    return {};
}

Result<std::unique_ptr<Device>> AssignedDevices::take(const VfioConfig& config) {
    if (auto node = opened_.extract(config.open.id))
        return std::move(node.mapped());
    return Device::open(session_, config.open);
}

Result<void> AssignedDevices::register_ram() {
    if (registered_)
        return {};
    for (const auto& region : context_.memory.regions())
        TRY_VOID(session_.add_ram(region));
    registered_ = true;
    return {};
}

/// The guest may give each device behind its IOMMU a view of its own; the host has one for the whole group.
Result<void> AssignedDevices::check_alone(const Device& device) const {
    for (const auto& one : made_)
        if (one.space == &device.dma() && !one.function.expired())
            return fail(Errc::unsupported,
                        device.name() + " shares " + device.dma().name() + " with " + one.host.text() +
                            ", and behind a virtual IOMMU each device needs a group of its own",
                        "assign one of them only, or leave out --iommu");
    return {};
}

Result<std::shared_ptr<PciFunction>> AssignedDevices::make(const VfioConfig& config, OnEvent on_event) {
    TRY_VOID(register_ram());
    auto device = TRY(take(config));
    const auto host = device->address();
    auto& space = device->dma();
    devices::vfio::FunctionContext context{
        .irqs = context_.irqs,
        .mappings = context_.mappings,
        .loop = context_.loop,
        .on_event = std::move(on_event),
        .guest_uses = [this](const devices::vfio::PciAddress& address) { return in_use(address); }};
    if (context_.iommu) {
        TRY_VOID(check_alone(*device));
        context.attach_dma = [&domains = *context_.iommu, &space, name = config.open.id](devices::pci::Address at) {
            return domains.add_endpoint(iommu::pci_endpoint(at.slot, at.function), name, space);
        };
    } else {
        TRY_VOID(session_.map_guest(space));
        context.share_bar = [this](Range<Gpa> range, std::span<std::byte> bytes, const std::string& name) {
            return alive() > 1 ? session_.share_bar(range, bytes, name) : Registration{};
        };
    }
    auto function = TRY(PciFunction::create(
        std::move(device), {.relocate_msix = config.relocate_msix, .msix_bar = config.msix_bar, .rom = config.rom},
        std::move(context)));
    std::erase_if(made_, [](const Made& one) { return one.function.expired(); });
    made_.push_back({host, &space, function});
    for (const auto& one : made_)
        if (const auto other = one.function.lock())
            other->share_bars();
    return function;
}

std::size_t AssignedDevices::alive() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(made_, [](const Made& one) { return !one.function.expired(); }));
}

bool AssignedDevices::in_use(const devices::vfio::PciAddress& host) const {
    return running_ &&
           std::ranges::any_of(made_, [&](const Made& one) { return one.host == host && !one.function.expired(); });
}

} // namespace vmm
