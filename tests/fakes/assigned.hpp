// SPDX-License-Identifier: Apache-2.0
// An assigned device on a PCI bus, with everything around it fake, as its driver sees it.
#pragma once

#include "devices/vfio/pci_function.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/host_device.hpp"
#include "tests/fakes/pci_function.hpp"
#include "tests/fakes/run_loop.hpp"

namespace inox::fakes {

/// An NVMe controller as the lab has it: MSI-X table in the middle of BAR 0, power management, PCI Express, and
/// extended capabilities of which a guest sees the first and third only.
inline DeviceBuilder nvme(unsigned vectors = 65, bool resizable = true) {
    DeviceBuilder builder;
    builder.bar(0, 0x4000, 0x4);
    builder.state->regions[0].msix_mappable = true;
    builder.interrupts(vfio::Interrupt::intx, 1);
    builder.interrupts(vfio::Interrupt::error, 1);
    builder.interrupts(vfio::Interrupt::request, 1);
    builder.msix(0x40, vectors, 0x2000, 0x3000, resizable);
    // Express endpoint, version 2; function level reset; a link.
    std::vector<std::uint8_t> express(0x3a);
    express[0] = 0x02;
    express[5] = 0x10;
    express[10] = 0x11;
    builder.capability(0x80, 0x10, express);
    builder.capability(0x60, 0x01, {0x03, 0xf8, 0x00, 0x00, 0x00, 0x00});
    builder.extended(0x100, 0x01, std::vector<std::uint8_t>(0x44, 0x5a));
    builder.extended(0x150, 0x10, std::vector<std::uint8_t>(0x3c, 0xa5));
    builder.extended(0x200, 0x03, {1, 2, 3, 4, 5, 6, 7, 8});
    return builder;
}

struct Assigned {
    explicit Assigned(DeviceBuilder builder = nvme(), vfio::FunctionOptions options = {}) : state{builder.state} {
        auto created = vfio::PciFunction::create(builder.open(), std::move(options), context());
        if (!created) {
            error = created.error();
            return;
        }
        function = *std::move(created);
        address = machine.root->add(function).value();
    }
    ~Assigned() {
        if (function && machine.root->find(address) == function)
            (void)machine.root->remove(address);
    }
    Assigned(const Assigned&) = delete;
    Assigned& operator=(const Assigned&) = delete;

    vfio::FunctionContext context() {
        return {.irqs = irqs,
                .mappings = mappings,
                .loop = loop,
                .on_event = [this](const vfio::HostDeviceEvent& event) { events.push_back(event); }};
    }

    template <std::unsigned_integral T> T get(unsigned reg) { return machine.get<T>(address, reg); }
    template <std::unsigned_integral T> void set(unsigned reg, std::type_identity_t<T> value) {
        machine.set<T>(address, reg, value);
    }
    [[nodiscard]] std::uint64_t bar(unsigned index) const { return function->config().bar_address(index); }
    template <std::unsigned_integral T> T bar_get(unsigned index, std::uint64_t offset) {
        return in<T>(machine.memory, bar(index) + offset);
    }
    template <std::unsigned_integral T>
    void bar_set(unsigned index, std::uint64_t offset, std::type_identity_t<T> value) {
        out<T>(machine.memory, bar(index) + offset, value);
    }
    void decode() { set<std::uint16_t>(4, 6); }
    /// Programs a vector in the table of BAR `table` and unmasks it.
    void unmask(unsigned vector, unsigned table = 0, std::uint64_t offset = 0x2000) {
        bar_set<std::uint32_t>(table, offset + 16 * vector, 0xfee01000);
        bar_set<std::uint32_t>(table, offset + 16 * vector + 4, 0);
        bar_set<std::uint32_t>(table, offset + 16 * vector + 8, 0x40 + vector);
        bar_set<std::uint32_t>(table, offset + 16 * vector + 12, 0);
    }
    /// What the host's device does to interrupt.
    void signal(vfio::Interrupt kind, unsigned vector) {
        const std::uint64_t one = 1;
        if (::write(state->wired.at(kind).at(vector), &one, sizeof one) != sizeof one)
            std::abort();
    }
    bool settle(const std::function<bool()>& done, std::chrono::milliseconds limit = std::chrono::seconds{2}) {
        return run_until(loop, done, limit);
    }
    /// A lost device has a moment to come back.
    bool fails() {
        return settle([&] { return function->failed(); }, std::chrono::seconds{20});
    }

    std::shared_ptr<FakeHostDevice::State> state;
    EventLoop loop{};
    FakeIrqs irqs{};
    FakeGuestMappings mappings{};
    PciMachine machine{};
    std::vector<vfio::HostDeviceEvent> events{};
    std::optional<Error> error{};
    std::shared_ptr<vfio::PciFunction> function{};
    devices::pci::Address address{};
};

} // namespace inox::fakes
