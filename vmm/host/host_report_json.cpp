// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/host/host_report.hpp"

namespace inox {
namespace {

using Json = nlohmann::ordered_json;

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

Json problem_json(const Error& problem) {
    return {{"code", error_name(problem.code)}, {"what", problem.message()}, {"hint", problem.hint}};
}

Json bar_json(const devices::vfio::SysfsBar& bar) {
    return {{"index", bar.index},
            {"size", bar.size},
            {"io", bar.io},
            {"wide", bar.wide},
            {"prefetchable", bar.prefetchable}};
}

Json device_json(const HostPciDevice& device) {
    const auto& [sysfs, problems] = device;
    const auto& function = sysfs.function;
    const auto text_or_null = [](const std::string& text) { return text.empty() ? Json{} : Json(text); };
    Json out{{"address", function.address},
             {"id", function.id},
             {"class", format("%06x", function.class_code)},
             {"driver", text_or_null(function.driver)},
             {"assignable", problems.empty()},
             {"problems", Json::array()},
             {"bind_commands", bind_commands(function)},
             {"reset_methods", sysfs.resets},
             {"bars", Json::array()},
             {"msi_vectors", sysfs.msi_vectors},
             {"msix_vectors", sysfs.msix_vectors},
             {"iommu", text_or_null(sysfs.iommu)},
             {"address_bits", nullptr},
             {"device_file", text_or_null(sysfs.device_file)}};
    if (sysfs.address_bits != 0)
        out["address_bits"] = sysfs.address_bits;
    for (const auto& problem : problems)
        out["problems"].push_back(problem_json(problem));
    for (const auto& bar : sysfs.bars)
        out["bars"].push_back(bar_json(bar));
    return out;
}

Json group_json(const IommuGroup& group) {
    Json out{{"number", group.number},
             {"viable", group.in_the_way().empty()},
             {"devices", Json::array()},
             {"reserved_regions", Json::array()}};
    for (const auto& device : group.devices)
        out["devices"].push_back(device_json(device));
    for (const auto& region : group.reserved)
        out["reserved_regions"].push_back({{"first", region.first}, {"last", region.last}, {"type", region.type}});
    return out;
}

Json iommu_json(const IommuReport& iommu) {
    Json out{{"units", Json::array()}, {"groups", Json::array()}};
    for (const auto& unit : iommu.units)
        out["units"].push_back(
            {{"name", unit.name}, {"kind", unit.kind}, {"pasid_bits", unit.pasid_bits}, {"nesting", unit.nesting}});
    for (const auto& group : iommu.groups)
        out["groups"].push_back(group_json(group));
    return out;
}

Json memory_json(const MemoryReport& memory) {
    Json out{{"total_mib", memory.total / MiB},
             {"available_mib", memory.available / MiB},
             {"huge_pages", Json::array()},
             {"transparent", memory.transparent},
             {"transparent_shared", memory.transparent_shared},
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
                       {"state", host_state_name(finding.state)},
                       {"text", finding.text},
                       {"hint", finding.todo}});
    return out;
}

} // namespace

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

} // namespace inox
