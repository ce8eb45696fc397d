// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/machine/config_text.hpp"
#include "vmm/machine/host_report.hpp"

namespace vmm {
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

/// The word for a PCI class code, most exact first.
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

std::string group_text(const IommuGroup& group) {
    const auto blockers = group.in_the_way();
    auto out = format("  group %u%s\n", group.number, blockers.empty() ? "" : ": held by host drivers");
    for (const auto& device : group.devices)
        out += format("    %-14s %-10s %-12s driver %s\n", device.address.c_str(), device.id.c_str(),
                      class_name(device.class_code), device.driver.empty() ? "none" : device.driver.c_str());
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

} // namespace vmm
