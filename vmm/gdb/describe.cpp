// SPDX-License-Identifier: Apache-2.0
#include "vmm/gdb/describe.hpp"

#include "vmm/base/hex.hpp"

namespace inox::gdb {
namespace {

std::string devices(const Machine& machine) {
    std::string out;
    for (const auto& one : machine.devices().list())
        out += format("%-14s %-12s %-16s%s\n", one.address ? one.address->text().c_str() : "-",
                      std::string{kind_name(one.name.kind)}.c_str(), one.name.id.c_str(),
                      one.state == DeviceState::ejecting ? " ejecting" : "");
    return out.empty() ? "the guest has no devices but those of the platform\n" : out;
}

std::string interrupts(const Machine& machine) {
    std::string out;
    for (const auto& route : machine.interrupt_routes())
        out +=
            format("GSI %-4u MSI address %#llx data %#x\n", route.gsi, hex(route.message.address), route.message.data);
    return out.empty() ? "no MSI is in force\n" : out;
}

std::string iommu(const Machine& machine) {
    const auto view = machine.views().iommu ? machine.views().iommu() : std::nullopt;
    if (!view)
        return "the guest has no IOMMU\n";
    std::string out = view->driver ? "" : "the guest has no driver for its IOMMU (yet)\n";
    for (const auto& one : view->endpoints)
        out += format("endpoint %u (%s): %s", one.id, one.device.c_str(), one.state.c_str()) +
               (one.domain ? format(", domain %u\n", *one.domain) : "\n");
    for (const auto& one : view->domains)
        out += format("domain %u: %llu mappings%s\n", one.id, hex(one.mappings), one.bypass ? ", bypass" : "");
    for (const auto& one : view->last_faults)
        out += format("fault: endpoint %u, address %#llx, %s: ", one.endpoint, hex(one.address), one.access.c_str()) +
               one.reason + "\n";
    return out;
}

} // namespace

std::string describe(const Machine& machine, std::string_view command) {
    if (command == "devices")
        return devices(machine);
    if (command == "irqs")
        return interrupts(machine);
    if (command == "iommu")
        return iommu(machine);
    return "monitor kaslr     how far the kernel runs from where it was linked\n"
           "monitor devices   the devices of the guest\n"
           "monitor irqs      the interrupts (MSI) in force\n"
           "monitor iommu     endpoints, domains and the last faults\n";
}

} // namespace inox::gdb
