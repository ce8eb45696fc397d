// SPDX-License-Identifier: Apache-2.0
// An assigned device on a PCI bus, with everything around it fake, as its driver sees it.
#pragma once

#include "devices/vfio/pci_function.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/host_device.hpp"
#include "tests/fakes/pci_function.hpp"
#include "tests/support/registers.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::fakes {

/// An NVMe controller as the lab has it: MSI-X table in the middle of BAR 0, power management, PCI Express, and
/// extended capabilities of which a guest sees the first and third only.
DeviceBuilder nvme(unsigned vectors = 65, bool resizable = true);

/// What of an Assigned's context is not there otherwise.
struct AssignedHooks {
    decltype(vfio::FunctionContext::apart) apart{};
    decltype(vfio::FunctionContext::share_bar) share_bar{};
    decltype(vfio::FunctionContext::attach_dma) attach_dma{};
};

struct Assigned {
    explicit Assigned(DeviceBuilder builder = nvme(), vfio::FunctionOptions options = {}, AssignedHooks hooks = {});
    ~Assigned();
    Assigned(const Assigned&) = delete;
    Assigned& operator=(const Assigned&) = delete;

    vfio::FunctionContext context();

    template <std::unsigned_integral T> T get(unsigned reg) { return machine.get<T>(address, reg); }
    template <std::unsigned_integral T> void set(unsigned reg, std::type_identity_t<T> value) {
        machine.set<T>(address, reg, value);
    }
    [[nodiscard]] std::uint64_t bar(unsigned index) const { return function->config().bar_address(index); }
    template <std::unsigned_integral T> T bar_get(unsigned index, std::uint64_t offset) {
        return tests::in<T>(machine.memory, bar(index) + offset);
    }
    template <std::unsigned_integral T>
    void bar_set(unsigned index, std::uint64_t offset, std::type_identity_t<T> value) {
        tests::out<T>(machine.memory, bar(index) + offset, value);
    }
    void decode() { set<std::uint16_t>(4, 6); }
    /// Programs a vector in the table of BAR `table` and unmasks it.
    void unmask(unsigned vector, unsigned table = 0, std::uint64_t offset = 0x2000);
    /// What the host's device does to interrupt.
    void signal(vfio::Interrupt kind, unsigned vector);
    bool settle(const std::function<bool()>& done, std::chrono::milliseconds limit = std::chrono::seconds{2});
    /// A lost device has a moment to come back.
    bool fails();

    std::shared_ptr<FakeHostDevice::State> state;
    AssignedHooks hooks;
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
