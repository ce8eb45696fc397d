// SPDX-License-Identifier: Apache-2.0
#include "api/json_views.hpp"

#include <numeric>

#include "vmm/base/error.hpp"

namespace inox::api {
namespace {

using Json = nlohmann::ordered_json;

/// As text, because many JSON readers lose digits of 64-bit numbers.
std::string hex(std::uint64_t value) { return format("%#llx", static_cast<unsigned long long>(value)); }

template <class T> Json or_null(const std::optional<T>& value) { return value ? Json(*value) : Json(nullptr); }

template <class List, class F> Json list_json(const List& list, F&& convert) {
    Json out = Json::array();
    for (const auto& one : list)
        out.push_back(convert(one));
    return out;
}

} // namespace

Json iommu_json(const IommuView& report) {
    const auto reserved = [](const auto& one) {
        return Json{{"start", hex(one.start)}, {"last", hex(one.last)}, {"kind", one.kind}};
    };
    using Counts = iommu::EndpointMemory::Counts;
    const auto count = [](const auto& one, std::uint64_t Counts::*which) {
        return one.counts ? Json(*one.counts.*which) : Json(nullptr);
    };
    return {{"present", true},
            {"driver", report.driver},
            {"bypass", report.bypass},
            {"endpoints", list_json(report.endpoints,
                                    [&](const auto& one) {
                                        return Json{{"id", one.id},
                                                    {"device", one.device},
                                                    {"state", one.state},
                                                    {"domain", or_null(one.domain)},
                                                    {"cache_hits", count(one, &Counts::hits)},
                                                    {"cache_misses", count(one, &Counts::misses)},
                                                    {"faults", count(one, &Counts::faults)},
                                                    {"reserved", list_json(one.reserved, reserved)}};
                                    })},
            {"domains", list_json(report.domains,
                                  [](const auto& one) {
                                      return Json{{"id", one.id},
                                                  {"bypass", one.bypass},
                                                  {"endpoints", one.endpoints},
                                                  {"mappings", one.mappings}};
                                  })},
            {"domain_count", report.domains.size()},
            {"fault_count", report.fault_count},
            {"last_faults", list_json(report.last_faults, [](const auto& one) {
                 return Json{{"endpoint", one.endpoint},
                             {"address", hex(one.address)},
                             {"reason", one.reason},
                             {"access", one.access}};
             })}};
}

Json mapping_json(const IommuMapping& mapping) {
    return {{"start", hex(mapping.iova_start)},
            {"last", hex(mapping.iova_last)},
            {"physical", hex(mapping.physical)},
            {"access", mapping.access}};
}

Json pasids_json(const PasidView& report) {
    const auto references = [](const std::vector<PasidView::Holder>& holders) {
        return list_json(holders, [](const auto& one) {
            return Json{{"holder", one.name}, {"count", one.references}};
        });
    };
    return {
        {"present", true},
        {"sets",
         list_json(report.sets,
                   [](const auto& one) {
                       return Json{{"id", one.id}, {"owner", one.owner}, {"quota", one.quota}, {"used", one.used}};
                   })},
        {"ids", list_json(report.ids,
                          [&](const auto& one) {
                              return Json{
                                  {"host", one.host},   {"guest", or_null(one.guest)},           {"set", one.set},
                                  {"state", one.state}, {"references", references(one.holders)}, {"bound", one.bound}};
                          })},
        {"id_count", std::accumulate(report.sets.begin(), report.sets.end(), std::uint64_t{0},
                                     [](std::uint64_t sum, const auto& set) { return sum + set.used; })},
        {"table", list_json(report.table,
                            [](const auto& one) {
                                return Json{{"guest", one.guest}, {"host", one.host}};
                            })},
        {"endpoints", list_json(report.endpoints,
                                [](const auto& one) {
                                    return Json{{"id", one.id},
                                                {"device", one.device},
                                                {"assigned", one.assigned},
                                                {"pasids", one.refusal.empty()},
                                                {"reason", one.refusal.empty() ? Json{} : Json(one.refusal)}};
                                })},
        {"counters",
         {{"submissions", report.counters.submissions},
          {"retries", report.counters.retries},
          {"refused", report.counters.refused},
          {"instructions", report.counters.instructions},
          {"exceptions", report.counters.exceptions},
          {"untranslated", report.counters.untranslated},
          {"faults", report.counters.faults}}}};
}

} // namespace inox::api
