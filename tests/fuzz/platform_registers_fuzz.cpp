// SPDX-License-Identifier: Apache-2.0
// The small registers of the platform: keyboard controller, clock, ACPI power and hot-plug, pvpanic. Whatever a guest
// does to them, the machine hears of no event that the guest did not ask for, and of no slot that does not exist. Their
// state is saved, damaged and restored.
//
//   input   device, how, offset, value of four bytes
#include "devices/acpi_power.hpp"
#include "devices/cmos.hpp"
#include "devices/debug_ports.hpp"
#include "devices/i8042.hpp"
#include "devices/pci/hotplug.hpp"
#include "devices/pvpanic.hpp"
#include "tests/fakes/fake_guest_events.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fuzz/bus_access.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/state.hpp"

using namespace inox;

namespace {

using fuzz::Input;
using fuzz::require;

std::time_t now = 0; ///< the host's clock

/// Each device at the start of 64 ports of its own.
struct World {
    fakes::FakeGuestEvents events{};
    fakes::FakeIrqs irqs{};
    std::uint32_t ejected{0};
    std::uint32_t asked{0};
    std::shared_ptr<devices::I8042> keyboard{std::make_shared<devices::I8042>(line(), events)};
    std::shared_ptr<devices::Cmos> cmos{std::make_shared<devices::Cmos>(3 * GiB, 2 * GiB, [] {
        return timespec{now, 0};
    })};
    std::shared_ptr<devices::AcpiPower> power{std::make_shared<devices::AcpiPower>(events, line())};
    std::shared_ptr<devices::PvPanic> panic{std::make_shared<devices::PvPanic>(events)};
    std::shared_ptr<devices::pci::HotplugRegisters> hotplug{
        std::make_shared<devices::pci::HotplugRegisters>(line(), [this](unsigned slot) {
            require(slot < 32);
            ejected |= 1U << slot;
        })};
    std::shared_ptr<devices::DebugPorts> debug{std::make_shared<devices::DebugPorts>(events)};
    std::shared_ptr<devices::pci::Function> function{*devices::PvPanicFunction::create(events)};
    std::vector<std::shared_ptr<BusDevice>> all{keyboard, cmos, power, panic, hotplug, debug};
    PortBus ports{};

    World() {
        std::uint64_t base = 0;
        for (const auto& device : all) {
            require(ports.add(*Range<IoPort>::sized(IoPort{base}, 64), device).has_value() && !device->name().empty());
            base += 64;
        }
        require(!function->name().empty());
    }
    /// What was saved of a device, damaged perhaps, goes back.
    void restore(std::size_t which, Input& input) {
        auto& device = *all[which % all.size()];
        const auto saved = tests::save(device);
        auto damaged = saved;
        fuzz::damage(damaged, input);
        if (!tests::restore(device, std::move(damaged))) // what was refused is not used
            require(tests::restore(device, saved).has_value());
        device.resume();
        require(tests::restore(*function, tests::save(*function)).has_value());
    }
    void panic_function(std::uint8_t how, unsigned offset, std::uint32_t value) {
        std::array<std::byte, 4> data{};
        store_le(data, value);
        const auto bytes = std::span{data}.first(how % 4U + 1);
        if ((how & 0x80) != 0)
            function->bar_write(0, offset, bytes);
        else
            function->bar_read(0, offset, bytes);
    }
    std::unique_ptr<IrqLine> line() { return *irqs.line(5, TriggerMode::edge); }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input{std::as_bytes(std::span{data, size})};
    now = input.take<std::uint32_t>();
    World world;
    std::size_t writes = 0;
    while (!input.empty()) {
        const auto what = input.take<std::uint8_t>();
        const auto how = input.take<std::uint8_t>();
        const auto offset = input.take<std::uint8_t>() % 64U;
        const auto value = input.take<std::uint32_t>();
        switch (what % 16) {
        case 8:
            world.restore(value, input);
            break;
        case 9:
            writes += (how & 0x80) != 0;
            world.panic_function(how, offset % 8U, value);
            break;
        case 10:
            world.hotplug->announce(value % 32);
            break;
        case 11:
            world.hotplug->ask_back(value % 32);
            break;
        case 12:
            world.hotplug->forget(value % 32);
            (void)world.hotplug->remind();
            break;
        case 13:
            (how & 1) != 0 ? world.power->tell_new_time((how & 2) != 0) : world.power->press_button();
            (void)world.power->remind();
            break;
        case 14:
            (void)world.keyboard->send_ctrl_alt_del();
            break;
        default:
            writes += (how & 0x80) != 0;
            fuzz::access(world.ports, (what % 6U) * 64 + offset, how, value);
        }
    }
    const auto events =
        world.events.power_offs + world.events.resets + world.events.panics + world.events.crash_kernels;
    require(events <= writes * 8 && (writes != 0 || world.ejected == 0));
    (void)devices::Cmos::host_clock();
    return 0;
}
