// SPDX-License-Identifier: Apache-2.0
// A hostile guest with an assigned device, and a device with a hostile configuration space: the input is both. Whatever
// it does, the guest sees the device's memory only inside the host bridge's windows and never the pages of the MSI-X
// table, only one kind of interrupt is wired, and what inox owns is never written at the device. The host refuses
// accesses, takes the device away, reports errors.

#include "tests/fakes/assigned.hpp"
#include "tests/fuzz/bus_access.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using namespace devices;
using namespace devices::vfio;
using fuzz::access;
using fuzz::Input;
using fuzz::require;

/// The NVMe controller of the tests, with MSI next to MSI-X, and with some bytes of its configuration space changed.
fakes::DeviceBuilder device(Input& input) {
    const auto how = input.take<std::uint8_t>();
    auto builder = fakes::nvme(how & 1 ? 65 : 3, (how & 2) != 0);
    builder.msi(0xd0, 8, how & 4 ? 0x0186 : 0x0006);
    builder.bar(2, 0x20, 1).bar(4, 0x10000, 0x8);
    builder.state->regions[4].areas = {{0, 0x2000}, {0x8000, 0x1000}};
    builder.state->add_region(region_rom, 0x1000);
    builder.state->vectors_left = how & 8 ? 16 : 4096;
    if (how & 0x10)
        builder.state->regions[region_config].size = pci::ConfigSpace::conventional;
    if (how & 0x20)
        builder.interrupts(Interrupt::intx, 0);
    if (how & 0x40)
        builder.interrupts(Interrupt::msi, 0);
    if (how & 0x80) // a function of a device without PCI Express
        builder.capability(0xf0, 0x13, {6, 3, 0, 0});
    for (unsigned count = input.take<std::uint8_t>() % 16; count > 0; --count) {
        const auto at = input.take<std::uint16_t>() % 4096U;
        const auto value = input.take<std::uint8_t>();
        builder.state->config<std::uint8_t>(at, value == 0x11 ? 0x10 : value); // there is only one MSI-X capability
    }
    return builder;
}

/// What is chosen for an assignment, from one byte.
FunctionOptions options(std::uint8_t how) {
    FunctionOptions out{.relocate_msix = (how & 1) != 0};
    if (how & 2)
        out.msix_bar = how >> 5;
    out.rom = (how & 4) == 0;
    if (how & 8) // as large as a PASID capability, or larger than what is free
        out.synthesised.push_back({.id = 0x1b, .body = std::vector<std::byte>(how & 16 ? 0xffc : 4)});
    return out;
}

/// BARs that other devices reach, each at one place.
struct SharedBars {
    std::vector<Range<Gpa>> ranges{};

    Registration add(Range<Gpa> range, std::span<std::byte> host) {
        require(range.size() == host.size());
        for (const auto& one : ranges)
            require(!one.overlaps(range));
        ranges.push_back(range);
        return Registration{[this, range] { std::erase(ranges, range); }};
    }
};

/// An event of the host: the device is lost or comes back, an access fails, an interrupt, an error.
void host_event(fakes::FakeHostDevice::State& state, std::uint8_t how) {
    const auto signal = [&](Interrupt kind) {
        if (const auto wired = state.wired.find(kind); wired != state.wired.end())
            for (const int fd : wired->second)
                if (const std::uint64_t one = 1; fd >= 0)
                    require(::write(fd, &one, sizeof one) == sizeof one);
    };
    switch (how % 16) {
    case 15:
        state.gone = !state.gone;
        break;
    case 14:
        state.io_error = !state.io_error;
        break;
    case 13:
        return signal(Interrupt::error);
    case 12:
        return signal(Interrupt::request);
    case 11:
        state.refuse_maps = !state.refuse_maps;
        break;
    case 10:
        return signal(Interrupt::intx);
    case 9:
        return signal(Interrupt::msi);
    default:
        return signal(Interrupt::msix);
    }
}

void check_slots(const fakes::Assigned& guest, bool relocated) {
    for (const auto& slot : *guest.mappings.slots)
        require(layout::pci_bars_32.contains(slot.range) || layout::pci_bars_64.contains(slot.range));
    const auto& bar = guest.function->config().bar(0);
    const auto table = guest.state->get<std::uint32_t>(region_config, 0x44);
    if (relocated || !bar || (table & 7) != 0)
        return;
    const auto page = align_down(guest.bar(0) + (table & ~7U), page_size);
    const auto range = *Range<Gpa>::sized(Gpa{page}, page_size);
    const bool has_msix = guest.function->config().get<std::uint8_t>(0x40) == 0x11;
    for (const auto& slot : *guest.mappings.slots)
        require(!has_msix || !slot.range.overlaps(range) || slot.range.start().raw() < guest.bar(0) ||
                slot.range.start().raw() >= guest.bar(0) + bar->size);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    Input input{std::as_bytes(std::span{data, size})};
    const auto builder = device(input);
    const auto chosen = options(input.take<std::uint8_t>());
    SharedBars shared;
    fakes::AssignedHooks hooks;
    hooks.share_bar = [&](auto range, auto host, const auto&) { return shared.add(range, host); };
    if (const auto how = input.take<std::uint8_t>(); (how & 1) != 0) {
        hooks.apart = [](auto work) { work(); };
        hooks.attach_dma = [](auto) { return Registration{[] {}}; };
    }
    fakes::Assigned guest{builder, chosen, std::move(hooks)};
    if (!guest.function)
        return 0;
    const auto state = guest.state;
    const auto bar_registers = state->get<std::uint64_t>(region_config, 0x10);
    while (!input.empty()) {
        const auto kind = input.take<std::uint8_t>();
        const auto how = input.take<std::uint8_t>();
        const auto at = input.take<std::uint16_t>();
        const auto value = input.take<std::uint32_t>();
        constexpr std::array<unsigned, 4> bars{0, 4, pci::rom_bar, 3}; // 3: where an MSI-X table moves to
        const unsigned bar = bars[kind / 16 % 4];
        switch (kind % 8) {
        case 0:
        case 1:
        case 2:
            access(guest.machine.memory, fakes::PciMachine::ecam(guest.address, at % 4096U), how, value);
            break;
        case 3: // at registers that matter
            access(guest.machine.memory,
                   fakes::PciMachine::ecam(guest.address, std::array{4U, 0x42U, 0xd2U, 0x10U}[at % 4]),
                   static_cast<std::uint8_t>(0x80 | (how & 0x43)), value);
            break;
        case 4:
        case 5:
            if (guest.function->config().bar(bar))
                access(guest.machine.memory, guest.bar(bar) + at % 0x4000U, how, value);
            break;
        case 6:
            if (guest.function->config().bar(2) && guest.function->config().bar(2)->kind == pci::BarKind::io)
                access(guest.machine.ports, guest.bar(2) + at % 0x20U, how, value);
            break;
        default:
            if (how == 0x77 && guest.machine.root->find(guest.address) == guest.function)
                require(guest.machine.root->remove(guest.address).has_value());
            host_event(*state, how);
            if (how & 0x80)
                tests::turn(guest.loop);
        }
        check_slots(guest, chosen.relocate_msix);
        unsigned kinds = 0;
        for (const auto which : {Interrupt::intx, Interrupt::msi, Interrupt::msix})
            kinds += state->enabled(which) ? 1 : 0;
        require(kinds <= 1);
        for (const auto& write : state->writes) // the table and the BARs' registers are inox's
            require(write.region != region_config || write.offset >= 0x28 || write.offset + write.size <= 0x10);
        state->writes.clear();
        state->reads.clear();
    }
    require(state->get<std::uint64_t>(region_config, 0x10) == bar_registers);
    return 0;
}
