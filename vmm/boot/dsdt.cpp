// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/dsdt.hpp"

#include <string>

#include "vmm/memory/layout.hpp"

namespace inox::boot {
namespace {

using namespace aml;

constexpr unsigned sleep_type_s5 = 5;
constexpr unsigned pci_slots = 32;
constexpr unsigned pci_pins = 4;

/// INTA..INTD of neighbouring slots go to different lines, so that devices share them evenly.
constexpr unsigned intx_gsi(unsigned slot, unsigned pin) { return layout::gsi_pci_intx + (slot + pin) % pci_pins; }

Bytes hardware_id(std::string_view eisa) { return name("_HID", eisa_id(eisa)); }

/// Ports and memory the machine itself uses: nothing may be placed there.
Bytes motherboard(bool pci) {
    std::vector<Bytes> owned{io_ports(layout::port_acpi), io_ports(layout::port_exit),
                             io_ports(layout::port_boot_timer)};
    if (pci) {
        owned.push_back(io_ports(layout::port_pci_hotplug));
        owned.push_back(memory32_fixed(layout::ecam));
    }
    return device("MBRD", {hardware_id("PNP0C02"), name("_UID", integer(0)), name("_CRS", resources(owned))});
}

Bytes serial_port() {
    return device(
        "COM1",
        {hardware_id("PNP0501"), name("_UID", integer(1)),
         name("_CRS", resources({io_ports(layout::port_serial), interrupt(layout::gsi_serial, IrqMode::edge_high)}))});
}

Bytes keyboard_controller() {
    return device("PS2K",
                  {hardware_id("PNP0303"),
                   name("_CRS", resources({io_ports(layout::port_i8042_data), io_ports(layout::port_i8042_status),
                                           interrupt(layout::gsi_keyboard, IrqMode::edge_high)}))});
}

/// _STA: present, working, decoding, shown.
Bytes pvpanic() {
    return device("PEVT", {name("_HID", string("QEMU0001")), name("_STA", integer(0xf)),
                           name("_CRS", resources({io_ports(layout::port_pvpanic)}))});
}

Bytes virtio_mmio(unsigned index, const AcpiMmioDevice& mmio) {
    constexpr char hex[] = "0123456789ABCDEF";
    const char device_name[] = {'V', 'I', hex[index >> 4 & 15], hex[index & 15]};
    return device({device_name, 4},
                  {name("_HID", string("LNRO0005")), name("_UID", integer(index)),
                   name("_CRS", resources({memory32_fixed(mmio.registers), interrupt(mmio.gsi, IrqMode::edge_high)}))});
}

/// docs/guest-abi.md
Bytes pasid_commands() {
    return device("PASD", {name("_HID", string("INOX0001")), name("_UID", integer(0)),
                           name("_CRS", resources({memory32_fixed(layout::pasid_registers)}))});
}

/// Routing of slot interrupts (ACPI 6.5, 6.2.13): directly to interrupt lines, no link devices.
Bytes pci_routing() {
    constexpr std::uint32_t any_function = 0xffff;
    std::vector<Bytes> routes;
    for (unsigned slot = 0; slot < pci_slots; ++slot)
        for (unsigned pin = 0; pin < pci_pins; ++pin)
            routes.push_back(
                package({integer(slot << 16 | any_function), integer(pin), integer(0), integer(intx_gsi(slot, pin))}));
    return name("_PRT", package(routes));
}

/// _OSC (PCI Firmware 3.3, 4.5): the guest may run PME, AER and the PCIe capability itself; hot-plug stays with ACPI.
Bytes pci_osc() {
    constexpr unsigned granted = 0x1c;
    constexpr unsigned unknown_uuid = 0x04;
    constexpr unsigned unknown_revision = 0x08;
    constexpr unsigned masked = 0x10;
    const Bytes status = path("CDW1");
    const Bytes control = path("CDW3");
    return method("_OSC", 4,
                  {dword_field(arg(3), 0, "CDW1"),
                   if_true(equal(arg(0), uuid("33db4d5b-1ff7-401c-9657-7441c03dd766")),
                           {dword_field(arg(3), 8, "CDW3"), bit_and(control, integer(granted), local(0)),
                            if_true(not_equal(arg(1), integer(1)), {bit_or(status, integer(unknown_revision), status)}),
                            if_true(not_equal(control, local(0)), {bit_or(status, integer(masked), status)}),
                            store(local(0), control), return_value(arg(3))}),
                   bit_or(status, integer(unknown_uuid), status), return_value(arg(3))});
}

/// _DSM (PCI Firmware 3.3, 4.6.5), function 5 = 0: the guest keeps the BAR addresses it finds.
Bytes pci_dsm() {
    constexpr std::uint8_t functions_0_and_5 = 0x21;
    return method("_DSM", 4,
                  {if_true(equal(arg(0), uuid("e5c937d0-3553-4d7a-9117-ea4d19c3434d")),
                           {if_true(equal(arg(2), integer(0)), {return_value(buffer({functions_0_and_5}))}),
                            if_true(equal(arg(2), integer(5)), {return_value(integer(0))})}),
                   return_value(buffer({0}))});
}

// Hot-plug: the registers of devices/pci/hotplug.hpp, a device object for each slot with which the guest ejects its
// device, and a method that notifies the slots of what the registers report. Slot 0 is the host bridge.

constexpr unsigned first_hotplug_slot = 1;

std::string slot_name(unsigned slot) { return format("S%02X", slot); }

Bytes hotplug_slot(unsigned slot) {
    const std::string name_text = slot_name(slot);
    return device(name_text, {name("_ADR", integer(slot << 16)), name("_SUN", integer(slot)),
                              method("_EJ0", 1, {store(integer(std::uint64_t{1} << slot), path("EJCT"))})});
}

/// Notifies each slot with a new device (device check) or one to be removed (eject request); ACPI 6.5, 5.6.6.
Bytes hotplug_news() {
    constexpr std::uint8_t device_check = 1;
    constexpr std::uint8_t eject_request = 3;
    std::vector<Bytes> terms{store(path("ADDS"), local(0)), store(path("WANT"), local(1))};
    for (unsigned slot = first_hotplug_slot; slot < pci_slots; ++slot) {
        const Bytes mask = integer(std::uint64_t{1} << slot);
        terms.push_back(if_true(bit_and(local(0), mask, nowhere()), {notify(slot_name(slot), device_check)}));
        terms.push_back(if_true(bit_and(local(1), mask, nowhere()), {notify(slot_name(slot), eject_request)}));
    }
    return method("NEWS", 0, terms);
}

Bytes hotplug() {
    std::vector<Bytes> terms{port_region("PHPR", layout::port_pci_hotplug),
                             dword_registers("PHPR", {"ADDS", "WANT", "EJCT"})};
    for (unsigned slot = first_hotplug_slot; slot < pci_slots; ++slot)
        terms.push_back(hotplug_slot(slot));
    terms.push_back(hotplug_news());
    return concat(terms);
}

/// ACPI 6.5, 4.8.2.2.1.2: a button that notifies of a press.
Bytes power_button() { return device("PWRB", {hardware_id("PNP0C0C"), name("_UID", integer(0))}); }

/// "Virtual Machine Generation ID" (Microsoft, 2018): ADDR says where the id is. The guest is notified when it changes.
/// Linux before 6.10 compares too few characters of a _CID, and knows the device by its _HID.
Bytes generation_id() {
    constexpr std::uint64_t address = layout::generation_id.raw();
    return device("VGEN", {name("_HID", string("VMGENCTR")), name("_CID", string("VM_Gen_Counter")),
                           name("_DDN", string("VM_Gen_Counter")), name("_STA", integer(0xf)),
                           name("ADDR", package({integer(address & UINT32_MAX), integer(address >> 32)}))});
}

/// The vmclock specification, 1.1. Notified when the clocks jump.
Bytes vm_clock() {
    return device("VCLK", {name("_HID", string("AMZNC10C")), name("_CID", string("VMCLOCK")),
                           name("_DDN", string("VMCLOCK")), name("_STA", integer(0xf)),
                           name("_CRS", resources({memory32_fixed(*Range<Gpa>::sized(layout::vm_clock, 4 * KiB))}))});
}

/// ACPI 6.5, 5.6.9: turns an interrupt into a call of _EVT.
Bytes generic_event_device(bool pci) {
    constexpr std::uint8_t pressed = 0x80;
    constexpr std::uint8_t changed = 0x80;
    const auto button = *Range<IoPort>::closed(layout::port_acpi.last(), layout::port_acpi.last());
    std::vector<Bytes> news{store(path("BTNS"), local(0)),
                            if_true(bit_and(local(0), integer(1), nowhere()), {notify("\\_SB.PWRB", pressed)}),
                            if_true(bit_and(local(0), integer(2), nowhere()), {notify("\\_SB.VGEN", changed)}),
                            if_true(bit_and(local(0), integer(4), nowhere()), {notify("\\_SB.VCLK", changed)})};
    if (pci)
        news.push_back(path("\\_SB.PCI0.NEWS"));
    return device("GED", {name("_HID", string("ACPI0013")), name("_UID", integer(0)),
                          name("_CRS", resources({interrupt(layout::gsi_ged, IrqMode::edge_high)})),
                          port_region("BTNR", button), byte_registers("BTNR", {"BTNS"}), method("_EVT", 1, news)});
}

Bytes pci_host_bridge(const AcpiConfig& config) {
    std::vector<Bytes> windows{bus_numbers(0, static_cast<std::uint8_t>(layout::ecam.size() / MiB - 1)),
                               io_ports(layout::port_pci_config), io_window(layout::pci_io),
                               memory32_window(config.bars_32)};
    if (config.bars_64)
        windows.push_back(memory64_window(*config.bars_64));
    return device("PCI0", {
                              hardware_id("PNP0A08"),
                              name("_CID", eisa_id("PNP0A03")),
                              name("_SEG", integer(0)),
                              name("_BBN", integer(0)),
                              name("_UID", integer(0)),
                              name("_CRS", resources(windows)),
                              pci_routing(),
                              pci_osc(),
                              pci_dsm(),
                              hotplug(),
                          });
}

} // namespace

Bytes dsdt_body(const AcpiConfig& config) {
    std::vector<Bytes> devices{motherboard(config.pci), serial_port(), keyboard_controller(), pvpanic(), power_button(),
                               generation_id(),         vm_clock()};
    for (unsigned i = 0; i < config.virtio_mmio.size(); ++i)
        devices.push_back(virtio_mmio(i, config.virtio_mmio[i]));
    if (config.pasids)
        devices.push_back(pasid_commands());
    if (config.pci)
        devices.push_back(pci_host_bridge(config));
    devices.push_back(generic_event_device(config.pci));
    return concat({
        name("\\_S5", package({integer(sleep_type_s5), integer(0), integer(0), integer(0)})),
        scope("\\_SB", devices),
    });
}

} // namespace inox::boot
