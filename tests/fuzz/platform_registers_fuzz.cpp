// SPDX-License-Identifier: Apache-2.0
// The small registers of the platform: keyboard controller, clock, ACPI power and hot-plug, pvpanic. Whatever a guest
// does to them, the machine hears of no event that the guest did not ask for, and of no slot that does not exist.
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

using namespace inox;

namespace {

using fuzz::Input;
using fuzz::require;

/// Each device at the start of 64 ports of its own.
struct World {
    fakes::FakeGuestEvents events{};
    fakes::FakeIrqs irqs{};
    std::uint32_t ejected{0};
    std::uint32_t asked{0};
    std::shared_ptr<devices::I8042> keyboard{std::make_shared<devices::I8042>(line(), events)};
    std::shared_ptr<devices::Cmos> cmos{std::make_shared<devices::Cmos>(3 * GiB, 2 * GiB, [] {
        return timespec{1'700'000'000, 0};
    })};
    std::shared_ptr<devices::AcpiPower> power{std::make_shared<devices::AcpiPower>(events, line())};
    std::shared_ptr<devices::PvPanic> panic{std::make_shared<devices::PvPanic>(events)};
    std::shared_ptr<devices::pci::HotplugRegisters> hotplug{
        std::make_shared<devices::pci::HotplugRegisters>(line(), [this](unsigned slot) {
            require(slot < 32);
            ejected |= 1U << slot;
        })};
    PortBus ports{};

    World() {
        std::uint64_t base = 0;
        for (const std::shared_ptr<BusDevice>& device :
             {std::shared_ptr<BusDevice>{keyboard}, std::shared_ptr<BusDevice>{cmos}, std::shared_ptr<BusDevice>{power},
              std::shared_ptr<BusDevice>{panic}, std::shared_ptr<BusDevice>{hotplug}}) {
            require(ports.add(*Range<IoPort>::sized(IoPort{base}, 64), device).has_value());
            base += 64;
        }
    }
    std::unique_ptr<IrqLine> line() { return *irqs.line(5, TriggerMode::edge); }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    World world;
    Input input{std::as_bytes(std::span{data, size})};
    std::size_t writes = 0;
    while (!input.empty()) {
        const auto what = input.take<std::uint8_t>();
        const auto how = input.take<std::uint8_t>();
        const auto offset = input.take<std::uint8_t>() % 64U;
        const auto value = input.take<std::uint32_t>();
        switch (what % 16) {
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
            world.power->press_button();
            (void)world.power->remind();
            break;
        case 14:
            (void)world.keyboard->send_ctrl_alt_del();
            break;
        default:
            writes += (how & 0x80) != 0;
            fuzz::access(world.ports, (what % 5U) * 64 + offset, how, value);
        }
    }
    const auto events =
        world.events.power_offs + world.events.resets + world.events.panics + world.events.crash_kernels;
    require(events <= writes * 8 && (writes != 0 || world.ejected == 0));
    return 0;
}
