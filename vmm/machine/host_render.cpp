// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <string_view>

#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/machine/config_text.hpp"
#include "vmm/machine/host_report.hpp"

namespace vmm {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* state_text(HostFinding::State state) {
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

// ---- for humans --------------------------------------------------------------------------------------------------

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
    auto out = format("  %-18s %-8s ", finding.subject, state_text(finding.state));
    out += wrapped(finding.text, text_column);
    if (!finding.todo.empty())
        out += std::string(text_column, ' ') + "-> " + wrapped(finding.todo, text_column + 3);
    return out;
}

std::string group_text(const IommuGroup& group) {
    const auto blockers = group.in_the_way();
    auto out = format("  group %u%s\n", group.number, blockers.empty() ? "" : ": held by host drivers");
    for (const auto& device : group.devices)
        out += format("    %-14s %-10s class %06x  driver %s\n", device.address.c_str(), device.id.c_str(),
                      device.class_code, device.driver.empty() ? "none" : device.driver.c_str());
    for (const auto& region : group.reserved)
        out += "    reserved " + region.first + " to " + region.last + " (" + region.type + ")\n";
    return out;
}

// ---- for programs ------------------------------------------------------------------------------------------------

Json kvm_json(const KvmReport& kvm) {
    Json out{{"present", kvm.present},
             {"usable", kvm.usable},
             {"interpreting", kvm.interpreting},
             {"million_instructions_per_second", nullptr},
             {"api_version", kvm.api_version},
             {"recommended_cpus", kvm.recommended_cpus},
             {"max_cpus", kvm.max_cpus},
             {"problem", kvm.problem},
             {"hint", kvm.todo},
             {"capabilities", Json::array()}};
    if (kvm.million_instructions_per_second)
        out["million_instructions_per_second"] = *kvm.million_instructions_per_second;
    for (const auto& one : kvm.capabilities)
        out["capabilities"].push_back(
            {{"name", one.name}, {"value", one.value}, {"required", one.required}, {"purpose", one.purpose}});
    return out;
}

Json group_json(const IommuGroup& group) {
    Json out{{"number", group.number},
             {"viable", group.in_the_way().empty()},
             {"devices", Json::array()},
             {"reserved_regions", Json::array()}};
    for (const auto& device : group.devices)
        out["devices"].push_back({{"address", device.address},
                                  {"id", device.id},
                                  {"class", format("%06x", device.class_code)},
                                  {"driver", device.driver.empty() ? Json{} : Json{device.driver}}});
    for (const auto& region : group.reserved)
        out["reserved_regions"].push_back({{"first", region.first}, {"last", region.last}, {"type", region.type}});
    return out;
}

Json iommu_json(const IommuReport& iommu) {
    Json out{{"units", Json::array()}, {"groups", Json::array()}};
    for (const auto& unit : iommu.units)
        out["units"].push_back({{"name", unit.name}, {"kind", unit.kind}, {"pasid_bits", unit.pasid_bits}});
    for (const auto& group : iommu.groups)
        out["groups"].push_back(group_json(group));
    return out;
}

Json memory_json(const MemoryReport& memory) {
    Json out{{"total_mib", memory.total / MiB},
             {"available_mib", memory.available / MiB},
             {"huge_pages", Json::array()},
             {"transparent_shared", memory.transparent},
             {"locked_limit_bytes", nullptr}};
    for (const auto& pages : memory.huge_pages)
        out["huge_pages"].push_back({{"size_kib", pages.size_kib}, {"total", pages.total}, {"free", pages.free}});
    if (memory.locked_limit)
        out["locked_limit_bytes"] = *memory.locked_limit;
    return out;
}

Json findings_json(const HostReport& report) {
    auto out = Json::array();
    for (const auto& finding : host_findings(report))
        out.push_back({{"section", finding.section},
                       {"subject", finding.subject},
                       {"state", state_text(finding.state)},
                       {"text", finding.text},
                       {"hint", finding.todo}});
    return out;
}

} // namespace

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

std::string host_json(const HostReport& report) {
    const auto& [enqcmd, movdir64b, movdiri, work_queues] = report.enqcmd;
    const Json out{{"inox", INOX_VERSION},
                   {"kernel", report.kernel},
                   {"cpus", report.cpus},
                   {"kvm", kvm_json(report.kvm)},
                   {"memory", memory_json(report.memory)},
                   {"tun",
                    {{"present", report.network.tun},
                     {"usable", report.network.tun_opens},
                     {"may_create", report.network.net_admin}}},
                   {"vfio",
                    {{"present", report.iommu.container},
                     {"usable", report.iommu.container_opens && !report.iommu.groups.empty()},
                     {"driver_loaded", report.iommu.vfio_pci}}},
                   {"iommufd", {{"present", report.iommu.iommufd}, {"device_files", report.iommu.device_files}}},
                   {"iommu", iommu_json(report.iommu)},
                   {"enqcmd",
                    {{"enqcmd", enqcmd},
                     {"movdir64b", movdir64b},
                     {"movdiri", movdiri},
                     {"work_queues", work_queues},
                     {"kernel_consumes_translation_table", false}}},
                   {"findings", findings_json(report)}};
    return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace vmm
