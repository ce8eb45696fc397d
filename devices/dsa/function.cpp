// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/function.hpp"

#include <array>
#include <utility>

#include "vmm/base/state.hpp"

namespace inox::devices::dsa {
namespace {

constexpr pci::Identity identity{
    .vendor = 0x8086, .device = 0x0b25, .class_code = 0x088000, .subsystem_vendor = 0x8086, .subsystem = 0};

// Capabilities (PCI Express base specification, 7.5.3, 7.8.9, 10.5.1, 10.5.2). Offsets are from a capability's start.
constexpr std::uint8_t express_id = 0x10;
constexpr std::uint16_t ats_id = 0x0f;
constexpr std::uint16_t page_request_id = 0x13;
constexpr std::uint16_t pasid_id = 0x1b;
constexpr std::uint16_t integrated_endpoint = 9U << 4 | 2; ///< version 2
constexpr unsigned express_size = 60;
constexpr unsigned device_capabilities = 4;
constexpr std::uint32_t role_based_errors = 1U << 15;
constexpr std::uint32_t function_level_reset = 1U << 28;
constexpr unsigned device_control = 8;
constexpr std::uint16_t initiate_reset = 1U << 15;
constexpr unsigned device_capabilities2 = 0x24;
constexpr std::uint32_t end_to_end_prefix = 1U << 21; ///< Linux enables no PASID without it
constexpr std::uint32_t one_prefix = 1U << 22;
constexpr std::uint16_t requests_stopped = 1U << 8;
constexpr std::uint16_t response_pasid_required = 1U << 15; ///< Linux enables no page requests without it
constexpr std::uint16_t pasid_privileged = 1U << 2;
constexpr std::uint16_t pasid_width = 20U << 8;
constexpr unsigned control_after_capability = 6; ///< ATS and PASID; page requests have it at 4
constexpr std::uint16_t ats_enable = 1U << 15;
constexpr std::uint16_t enable = 1U << 0;

pci::MsixLayout msix_layout(const Shape& shape) {
    return {static_cast<std::uint16_t>(shape.queues + 1), DsaFunction::register_bar, reg::msix_table,
            DsaFunction::register_bar, reg::msix_pba};
}

} // namespace

DsaFunction::DsaFunction(const Shape& shape, const DsaContext& context)
    : Function{identity}, iommu_{context.iommu}, endpoint_{iommu_ ? iommu_->make_memory() : nullptr},
      msix_{context.irqs, msix_layout(shape)}, spaces_{context.pasids ? std::make_unique<EndpointSpaces>(
                                                                            *context.pasids,
                                                                            [this](iommu::HostPasid pasid) {
                                                                                accelerator_.forget(pasid);
                                                                            })
                                                                      : nullptr},
      accelerator_{shape,
                   {endpoint_ ? *endpoint_ : context.memory, spaces_.get(),
                    [this](unsigned vector) { msix_.trigger(vector); }, context.make_copier}},
      portals_{accelerator_} {}

Result<std::shared_ptr<DsaFunction>> DsaFunction::create(const Shape& shape, const DsaContext& context) {
    std::shared_ptr<DsaFunction> function{new DsaFunction{shape, context}};
    TRY_VOID(function->build());
    TRY_VOID(function->accelerator_.start());
    return function;
}

Result<void> DsaFunction::build() {
    auto& space = config();
    TRY_VOID(space.add_bar(register_bar, {pci::BarKind::memory64, reg::bar_size, true}));
    TRY_VOID(space.add_bar(portal_bar, {pci::BarKind::memory64, portals_.size(), true}));
    TRY_VOID(msix_.add_capability(space));

    constexpr unsigned header = 2; // the body comes after it
    std::array<std::byte, express_size - header> express{};
    std::array<std::byte, express_size - header> express_writable{};
    const auto put = [](std::span<std::byte> body, unsigned offset, std::unsigned_integral auto value) {
        store_le(body.subspan(offset - header, sizeof value), value);
    };
    put(express, header, integrated_endpoint);
    put(express, device_capabilities, role_based_errors | function_level_reset);
    put(express, device_capabilities2, end_to_end_prefix | one_prefix);
    put(express_writable, device_control, initiate_reset);
    express_ = TRY(space.add_capability(express_id, express, express_writable));

    std::array<std::byte, 4> body{};
    std::array<std::byte, 4> writable{};
    store_le(std::span{body}, 0x20); // page aligned requests
    store_le(std::span{writable}, std::uint32_t{ats_enable | 0x1fU} << 16);
    ats_ = TRY(space.add_extended_capability(ats_id, 1, body, writable));

    std::array<std::byte, 12> requests{};
    std::array<std::byte, 12> requests_writable{};
    constexpr std::uint64_t status = requests_stopped | response_pasid_required, capacity = 64;
    store_le(std::span{requests}, status << 16 | capacity << 32);
    store_le(std::span{requests_writable}.first(2), enable);
    store_le(std::span{requests_writable}.subspan(8), 0xffffffff);
    page_requests_ = TRY(space.add_extended_capability(page_request_id, 1, requests, requests_writable));

    store_le(std::span{body}, pasid_privileged | pasid_width);
    store_le(std::span{writable}, std::uint32_t{enable | pasid_privileged} << 16);
    pasid_ = TRY(space.add_extended_capability(pasid_id, 1, body, writable));

    const auto publish = [this] { publish_bus_state(); };
    space.watch(pci::reg::command, 2, publish);
    space.watch(ats_ + control_after_capability, 2, publish);
    space.watch(page_requests_ + 4, 2, publish);
    space.watch(pasid_ + control_after_capability, 2, publish);
    space.watch(express_ + device_control, 2, [this] { on_device_control(); });
    return {};
}

Result<void> DsaFunction::on_added(pci::Address address) {
    const auto id = iommu::pci_endpoint(address.slot, address.function);
    if (endpoint_)
        endpoint_stay_ = TRY(iommu_->add_endpoint(id, std::string{name()}, *endpoint_));
    return spaces_ ? spaces_->attach(id, std::string{this->name()}) : Result<void>{};
}

void DsaFunction::on_removed() noexcept {
    accelerator_.stop();
    if (spaces_)
        spaces_->detach();
    endpoint_stay_.reset();
}

void DsaFunction::publish_bus_state() noexcept {
    const auto control = [this](unsigned offset) { return config().get<std::uint16_t>(offset); };
    const std::uint16_t pasid = control(pasid_ + control_after_capability);
    accelerator_.set_bus_state({.bus_master = (config().command() & pci::command_bit::bus_master) != 0,
                                .pasid = (pasid & enable) != 0,
                                .privileged_mode = (pasid & pasid_privileged) != 0,
                                .ats = (control(ats_ + control_after_capability) & ats_enable) != 0,
                                .page_requests = (control(page_requests_ + 4) & enable) != 0});
}

/// A function-level reset (7.5.3.4). The bit reads as 0, and all the rest is as after power-on.
void DsaFunction::on_device_control() noexcept {
    if ((config().get<std::uint16_t>(express_ + device_control) & initiate_reset) == 0)
        return;
    accelerator_.reset_function();
    portals_.reset();
    msix_.reset();
    // Writing zeros everywhere clears every bit that the guest can set, and notifies those who watch.
    static constexpr std::array<std::byte, pci::ConfigSpace::express> zeros{};
    config().write(0, zeros);
}

void DsaFunction::state(State& state) {
    state.version(1);
    state.part("msix", [this](State& part) { msix_.state(part); });
    if (state.ok())
        state.part("portals", [this](State& part) { portals_.state(part); });
    if (state.ok())
        state.part("accelerator", [this](State& part) { accelerator_.state(part); });
    restored_ = state.restores();
}

/// An interrupt may have been lost on its way, and a driver that is interrupted for nothing finds nothing.
void DsaFunction::resume() noexcept {
    msix_.resume();
    if (std::exchange(restored_, false))
        for (unsigned vector = 0; vector < accelerator_.vectors(); ++vector)
            msix_.trigger(vector);
    accelerator_.resume();
}

void DsaFunction::bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept {
    if (bar == portal_bar)
        portals_.read(offset, data);
    else if (!msix_.bar_read(bar, offset, data))
        accelerator_.read(offset, data);
}

void DsaFunction::bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if (bar == portal_bar)
        portals_.write(offset, data);
    else if (!msix_.bar_write(bar, offset, data))
        accelerator_.write(offset, data);
}

void DsaFunction::bar_write_wide(unsigned bar, std::uint64_t offset, WideBytes data) noexcept {
    if (bar == portal_bar)
        portals_.write_wide(offset, data);
    else
        Function::bar_write_wide(bar, offset, data);
}

bool DsaFunction::bar_enqueue(unsigned bar, std::uint64_t offset, WideBytes command) noexcept {
    return bar == portal_bar && portals_.enqueue(offset, command);
}

} // namespace inox::devices::dsa
