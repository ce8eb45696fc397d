// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/host/host_report.hpp"

namespace inox {
namespace {

/// Breaks at spaces so that lines end before column 110; every line starts at `indent`.
std::string wrapped(std::string_view text, std::size_t indent) {
    constexpr std::size_t width = 110;
    std::string out;
    while (text.size() + indent > width) {
        const auto space = text.rfind(' ', width - indent);
        if (space == text.npos || space == 0)
            break;
        out.append(text.substr(0, space)).append("\n").append(indent, ' ');
        text.remove_prefix(space + 1);
    }
    return out.append(text).append("\n");
}

std::string finding_text(const HostFinding& finding) {
    constexpr std::size_t text_column = 30;
    auto out = format("  %-18s %-8s ", finding.subject, host_state_name(finding.state));
    out += wrapped(finding.text, text_column);
    if (!finding.todo.empty())
        out += std::string(text_column, ' ') + "-> " + wrapped(finding.todo, text_column + 3);
    return out;
}

/// The word for a PCI class code; the most exact entries come first.
const char* class_name(std::uint32_t code) {
    static constexpr struct {
        unsigned shift;
        std::uint32_t value;
        const char* name;
    } names[] = {{8, 0x0106, "SATA"},   {8, 0x0108, "NVMe"},      {16, 0x01, "storage"}, {16, 0x02, "network"},
                 {16, 0x03, "display"}, {16, 0x04, "media"},      {16, 0x06, "bridge"},  {8, 0x0c03, "USB"},
                 {16, 0x0c, "bus"},     {16, 0x12, "accelerator"}};
    for (const auto& row : names)
        if (code >> row.shift == row.value)
            return row.name;
    return "other";
}

/// "BARs 16 KiB, 32 bytes of I/O, 1 MiB; 8 MSI, 65 MSI-X; reset flr, bus; 39 bits of DMA (dmar0)"
std::string details(const devices::vfio::SysfsDevice& device) {
    std::string out;
    const auto item = [&](const char* separator, const std::string& text) {
        out += (out.empty() ? "" : separator) + text;
    };
    for (const auto& bar : device.bars)
        item(", ", (out.empty() ? "BARs " : "") +
                       (bar.size < KiB ? std::to_string(bar.size) + " bytes" : size_text(bar.size)) +
                       (bar.io                                      ? " of I/O"
                        : bar.index == devices::vfio::SysfsBar::rom ? " of ROM"
                                                                    : ""));
    if (device.msi_vectors + device.msix_vectors != 0)
        item("; ", format("%u MSI, %u MSI-X", device.msi_vectors, device.msix_vectors));
    for (std::size_t i = 0; i < device.resets.size(); ++i)
        item(i == 0 ? "; " : ", ", (i == 0 ? "reset " : "") + device.resets[i]);
    if (device.resets.empty())
        item("; ", "no reset");
    if (device.address_bits != 0)
        item("; ", format("%u bits of DMA (%s)", device.address_bits, device.iommu.c_str()));
    return out;
}

std::string device_text(const HostPciDevice& device) {
    constexpr std::size_t indent = 8;
    constexpr std::uint32_t bridge = 0x06;
    const auto& function = device.sysfs.function;
    auto out = format("    %-14s %-10s %-12s driver %s\n", function.address.c_str(), function.id.c_str(),
                      class_name(function.class_code), function.driver.empty() ? "none" : function.driver.c_str());
    if (function.class_code >> 16 == bridge) // nobody assigns one
        return out;
    out += std::string(indent, ' ') + wrapped(details(device.sysfs), indent);
    if (device.problems.empty())
        return out + std::string(indent, ' ') + "can be assigned: --vfio " + function.address + "\n";
    const auto& problem = device.problems.front();
    out += std::string(indent, ' ') + "not assignable now: " + wrapped(problem.message(), indent);
    return out + std::string(indent, ' ') + "-> " + wrapped(problem.hint, indent + 3);
}

std::string group_text(const IommuGroup& group) {
    const auto blockers = group.in_the_way();
    auto out = format("  group %u%s\n", group.number, blockers.empty() ? "" : ": held by host drivers");
    for (const auto& device : group.devices)
        out += device_text(device);
    for (const auto& region : group.reserved)
        out += "    reserved " + region.first + " to " + region.last + " (" + region.type + ")\n";
    return out;
}

} // namespace

const char* host_state_name(HostFinding::State state) {
    switch (state) {
    case HostFinding::State::yes:
        return "yes";
    case HostFinding::State::limited:
        return "limited";
    case HostFinding::State::no:
        break;
    }
    return "no";
}

std::string host_text(const HostReport& report) {
    auto out = format("inox %s on Linux %s, %u CPUs, %s of memory\n", INOX_VERSION, report.kernel.c_str(), report.cpus,
                      size_text(align_down(report.memory.total, MiB)).c_str());
    std::string_view section;
    for (const auto& finding : host_findings(report)) {
        if (finding.section != section)
            out += "\n" + std::string{finding.section} + "\n";
        section = finding.section;
        out += finding_text(finding);
    }
    if (!report.iommu.groups.empty())
        out += "\nIOMMU groups\n";
    for (const auto& group : report.iommu.groups)
        out += group_text(group);
    return out;
}

} // namespace inox
