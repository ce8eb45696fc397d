// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/exits/report.hpp"

#include <algorithm>
#include <fcntl.h>

#include "vmm/base/os.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

std::string_view port_name(std::uint64_t port) {
    struct Named {
        Range<IoPort> range;
        std::string_view name;
    };
    static constexpr Named ports[]{
        {layout::port_serial, "serial port"},
        {layout::port_i8042_data, "keyboard controller"},
        {layout::port_i8042_status, "keyboard controller"},
        {layout::port_cmos, "CMOS clock"},
        {layout::port_exit, "exit port"},
        {layout::port_boot_timer, "boot timer"},
        {layout::port_pvpanic, "pvpanic"},
        {layout::port_acpi, "ACPI registers"},
        {layout::port_pci_hotplug, "PCI hot-plug"},
        {layout::port_pci_config, "PCI configuration"},
        {layout::pci_io, "PCI BAR"},
    };
    for (const auto& [range, name] : ports)
        if (port >= range.start().raw() && port <= range.last().raw())
            return name;
    return {};
}

std::string_view memory_name(std::uint64_t address) {
    const auto in = [&](const auto& range) { return address >= range.start().raw() && address <= range.last().raw(); };
    if (in(layout::ecam))
        return "PCI configuration";
    if (in(layout::pasid_registers))
        return "PASID registers";
    if (in(layout::mmio_devices))
        return "virtio-mmio";
    if (in(layout::pci_bars_32) || in(layout::pci_bars_64))
        return "PCI BAR";
    return {};
}

std::uint64_t total_of(std::span<const ExitCount> counts) {
    std::uint64_t sum = 0;
    for (const auto& one : counts)
        sum += one.count;
    return sum;
}

/// "port write 0x3f8 (serial port)"
std::string row_text(const ExitCount& one) {
    std::string row{exit_reason_text(one.reason)};
    if (const auto access = exit_access_text(one); !access.empty())
        row += " " + std::string{access} + " " + exit_address_text(one);
    if (const auto name = exit_place_name(one); !name.empty())
        row += " (" + std::string{name} + ")";
    return row;
}

unsigned long long wide(std::uint64_t value) { return value; }

} // namespace

std::string_view exit_place_name(const ExitCount& exit) {
    if (!exit.address)
        return {};
    return exit.reason == ExitReason::port     ? port_name(*exit.address)
           : exit.reason == ExitReason::memory ? memory_name(*exit.address)
                                               : std::string_view{};
}

std::string_view exit_access_text(const ExitCount& exit) {
    if (exit.reason != ExitReason::port && exit.reason != ExitReason::memory && exit.reason != ExitReason::msr)
        return {};
    return exit.write ? "write" : "read";
}

std::string exit_address_text(const ExitCount& exit) {
    if (exit.address)
        return format("0x%llx", wide(*exit.address));
    return exit_access_text(exit).empty() ? "" : "elsewhere";
}

std::string exits_text(std::span<const ExitCount> counts) {
    const auto total = total_of(counts);
    std::string out = format("%llu exits to user space\n", wide(total));
    for (const auto& one : counts.first(std::min(counts.size(), most_exit_rows)))
        out += format("%12llu %5.1f %%  ", wide(one.count),
                      100 * static_cast<double>(one.count) / static_cast<double>(total)) +
               row_text(one) + "\n";
    if (counts.size() > most_exit_rows)
        out += format("%12llu          at %zu other places\n", wide(total_of(counts.subspan(most_exit_rows))),
                      counts.size() - most_exit_rows);
    return out;
}

std::string exits_json(std::span<const ExitCount> counts) {
    const auto shown = counts.first(std::min(counts.size(), most_exit_rows));
    std::string rows;
    for (const auto& one : shown) {
        const auto text = [](std::string_view value) {
            return value.empty() ? std::string{"null"} : '"' + std::string{value} + '"';
        };
        rows += std::string{rows.empty() ? "" : ",\n    "} + "{\"reason\": " + text(exit_reason_text(one.reason)) +
                ", \"access\": " + text(exit_access_text(one)) +
                ", \"address\": " + text(one.address ? exit_address_text(one) : "") +
                ", \"place\": " + text(exit_place_name(one)) + format(", \"count\": %llu}", wide(one.count));
    }
    return format("{\n  \"total\": %llu,\n  \"more\": %llu,\n  \"exits\": [", wide(total_of(counts)),
                  wide(total_of(counts.subspan(shown.size())))) +
           (rows.empty() ? "" : "\n    " + rows + "\n  ") + "]\n}\n";
}

Result<void> write_exits(const std::string& path, std::span<const ExitCount> counts) {
    const auto file = TRY(open_output(path, OutputStart::replace));
    return write_all(file.get(), path.ends_with(".json") ? exits_json(counts) : exits_text(counts));
}

} // namespace inox
