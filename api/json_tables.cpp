// SPDX-License-Identifier: Apache-2.0
#include "api/json_tables.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "vmm/config/config_text.hpp"

namespace inox::api {
namespace {

using Json = nlohmann::ordered_json;

Json parse(std::string_view text) { return Json::parse(text, nullptr, false); }

std::string cell(const Json& value) {
    if (value.is_null())
        return "-";
    if (value.is_string())
        return value.get<std::string>().empty() ? "-" : value.get<std::string>();
    if (value.is_boolean())
        return value.get<bool>() ? "yes" : "no";
    if (value.is_array()) {
        std::string out;
        for (const auto& one : value)
            out += (out.empty() ? "" : ",") + cell(one);
        return out.empty() ? "-" : out;
    }
    return value.dump();
}

struct Column {
    const char* title;
    const char* key;
};
using Columns = std::vector<Column>;

std::string table(const Json& list, const Columns& columns) {
    if (!list.is_array() || list.empty())
        return "none\n";
    std::vector<std::vector<std::string>> rows(1);
    for (const auto& column : columns)
        rows[0].emplace_back(column.title);
    for (const auto& one : list) {
        auto& row = rows.emplace_back();
        for (const auto& column : columns)
            row.push_back(one.contains(column.key) ? cell(one.at(column.key)) : "-");
    }
    std::string out;
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            std::size_t width = 0;
            for (const auto& other : rows)
                width = std::max(width, other[i].size());
            line += row[i] + std::string(i + 1 == row.size() ? 0 : width - row[i].size() + 2, ' ');
        }
        out += line + "\n";
    }
    return out;
}

/// One line for each value. Objects and arrays inside are only shown with --json.
std::string lines(const Json& object) {
    std::size_t width = 0;
    for (const auto& [key, unused] : object.items())
        width = std::max(width, key.size());
    std::string out;
    for (const auto& [key, value] : object.items())
        out += key + std::string(width - key.size() + 2, ' ') + cell(value) + "\n";
    return out;
}

std::string page_text(const Json& page, const Columns& columns) {
    const auto& items = page.at("items");
    std::string out = table(items, columns);
    const auto total = page.at("total").get<std::size_t>();
    if (items.size() < total)
        out += "(" + std::to_string(items.size()) + " of " + std::to_string(total) + ")\n";
    return out;
}

const Columns drive_columns{{"ID", "drive_id"},      {"ROOT", "is_root_device"}, {"READONLY", "is_read_only"},
                            {"CACHE", "cache_type"}, {"ENGINE", "io_engine"},    {"PATH", "path_on_host"}};
const Columns exits_columns{
    {"COUNT", "count"}, {"REASON", "reason"}, {"ACCESS", "access"}, {"ADDRESS", "address"}, {"PLACE", "place"}};
const Columns clone_columns{
    {"ID", "id"}, {"PID", "pid"}, {"SOCKET", "socket"}, {"FIRST INSTRUCTION (us)", "first_instruction_us"}};
const Columns net_columns{{"ID", "iface_id"}, {"TAP", "host_dev_name"}, {"MAC", "guest_mac"}, {"MTU", "mtu"}};

std::string iommu_text(const Json& iommu) {
    if (!iommu.value("present", false))
        return "no IOMMU\n";
    std::string out = "driver in the guest: " + cell(iommu.at("driver")) + "\nbypass: " + cell(iommu.at("bypass")) +
                      "\n\nendpoints\n";
    out += table(iommu.at("endpoints"), {{"ID", "id"},
                                         {"DEVICE", "device"},
                                         {"STATE", "state"},
                                         {"DOMAIN", "domain"},
                                         {"HITS", "cache_hits"},
                                         {"MISSES", "cache_misses"},
                                         {"FAULTS", "faults"}});
    for (const auto& endpoint : iommu.at("endpoints"))
        if (!endpoint.at("reserved").empty())
            out += "\nreserved of " + cell(endpoint.at("id")) + "\n" +
                   table(endpoint.at("reserved"), {{"START", "start"}, {"LAST", "last"}, {"KIND", "kind"}});
    out += "\ndomains\n" +
           table(iommu.at("domains"),
                 {{"ID", "id"}, {"BYPASS", "bypass"}, {"MAPPINGS", "mappings"}, {"ENDPOINTS", "endpoints"}});
    out += "\nfaults: " + cell(iommu.at("fault_count")) + "\n";
    if (!iommu.at("last_faults").empty())
        out += table(iommu.at("last_faults"),
                     {{"ENDPOINT", "endpoint"}, {"ADDRESS", "address"}, {"ACCESS", "access"}, {"REASON", "reason"}});
    return out;
}

std::string pasids_text(const Json& pasids) {
    if (!pasids.value("present", false))
        return "no PASIDs\n";
    Json ids = pasids.at("ids");
    for (auto& id : ids) {
        std::string holders;
        for (const auto& one : id.at("references"))
            holders +=
                (holders.empty() ? "" : ", ") + one.at("holder").get<std::string>() + " " + cell(one.at("count"));
        id["references"] = holders;
    }
    return "sets\n" +
           table(pasids.at("sets"), {{"ID", "id"}, {"OWNER", "owner"}, {"USED", "used"}, {"QUOTA", "quota"}}) +
           "\nids\n" +
           table(ids, {{"HOST", "host"},
                       {"GUEST", "guest"},
                       {"SET", "set"},
                       {"STATE", "state"},
                       {"BOUND", "bound"},
                       {"REFERENCES", "references"}}) +
           "\ntranslation table\n" + table(pasids.at("table"), {{"GUEST", "guest"}, {"HOST", "host"}}) + "\ndevices\n" +
           table(pasids.at("endpoints"),
                 {{"ID", "id"}, {"DEVICE", "device"}, {"PASIDS", "pasids"}, {"REASON", "reason"}}) +
           "\ncounters\n" + lines(pasids.at("counters"));
}

std::string config_text(const Json& config) {
    std::string out;
    for (const auto& [section, value] : config.items()) {
        if (value.is_null() || (value.is_array() && value.empty()))
            continue;
        out += (out.empty() ? "" : "\n") + section + "\n";
        if (section == "drives")
            out += table(value, drive_columns);
        else if (section == "network-interfaces")
            out += table(value, net_columns);
        else
            out += value.is_object() ? lines(value) : cell(value) + "\n";
    }
    return out;
}

std::string view_text(View view, const Json& json) {
    switch (view) {
    case View::status:
    case View::machine:
    case View::balloon:
        return lines(json);
    case View::config:
        return config_text(json);
    case View::drives:
        return table(json.at("drives"), drive_columns);
    case View::nets:
        return table(json.at("network-interfaces"), net_columns);
    case View::devices:
        return page_text(json, {{"ID", "id"},
                                {"KIND", "kind"},
                                {"ADDRESS", "address"},
                                {"STATE", "state"},
                                {"DRIVER", "driver_active"},
                                {"KICKS", "kicks"},
                                {"INTERRUPTS", "interrupts"}});
    case View::guests:
        return table(json.at("guests"), {{"ID", "id"},
                                         {"PID", "pid"},
                                         {"STATE", "state"},
                                         {"UPTIME", "uptime"},
                                         {"CPUS", "vcpus"},
                                         {"MEMORY", "memory"},
                                         {"KERNEL", "kernel"}});
    case View::clones:
        return page_text(json, clone_columns);
    case View::spawned:
        return table(json.at("clones"), clone_columns);
    case View::exits:
        return table(json.at("exits"), exits_columns);
    case View::irqs:
        return page_text(
            json,
            {{"GSI", "gsi"}, {"VECTOR", "vector"}, {"CPU", "destination"}, {"ADDRESS", "address"}, {"DATA", "data"}});
    case View::iommu:
        return iommu_text(json);
    case View::mappings:
        return page_text(json, {{"START", "start"}, {"LAST", "last"}, {"PHYSICAL", "physical"}, {"ACCESS", "access"}});
    case View::pasids:
        return pasids_text(json);
    }
    return {};
}

} // namespace

std::string table_text(View view, std::string_view body) {
    const auto json = parse(body);
    if (!json.is_object())
        return std::string{body} + "\n";
    try {
        return view_text(view, json);
    } catch (const Json::exception&) {
        return pretty(body); // the other side has another version
    }
}

std::string event_text(std::string_view line) {
    const auto json = parse(line);
    if (!json.is_object() || !json.contains("time") || !json.contains("event"))
        return std::string{line} + "\n";
    std::string out = cell(json.at("time")) + "  " + cell(json.at("event"));
    for (const auto& [key, value] : json.items())
        if (key != "time" && key != "event" && key != "sequence")
            out += "  " + key + "=" + cell(value);
    return out + "\n";
}

namespace {

/// Firecracker's own refusals have a raw newline inside a string, which JSON does not allow.
Json parse_leniently(std::string_view text) {
    std::string clean;
    for (const char c : text)
        clean += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    return parse(clean);
}

/// Empty when the member does not exist or is no text.
std::string text_at(const Json& json, const char* key) {
    return json.is_object() && json.contains(key) && json.at(key).is_string() ? json.at(key).get<std::string>() : "";
}

/// For refusals that the API's lower layers make, without code and hint.
Error by_status(unsigned status) {
    switch (status) {
    case 400:
        return make_error(Errc::bad_option, {}, "see inox ctl --help, or inox ctl openapi");
    case 403:
        return make_error(Errc::host_error, {}, "ask as the user who started it, or start it with --api-group");
    case 404:
        return make_error(Errc::not_found, {});
    case 503:
        return make_error(Errc::no_resource, {},
                          "try again when others are done, or start it with more --api-connections");
    default:
        return make_error(Errc::host_error, {});
    }
}

} // namespace

std::string text_in(std::string_view body, const std::vector<const char*>& path) {
    auto json = parse_leniently(body);
    for (const char* member : path) {
        if (!json.is_object() || !json.contains(member))
            return {};
        auto inside = std::move(json.at(member));
        json = std::move(inside);
    }
    return json.is_string() ? json.get<std::string>() : "";
}

Error refusal_error(unsigned status, std::string_view body) {
    auto error = by_status(status);
    const auto json = parse_leniently(body);
    error.what = text_at(json, "fault_message");
    if (error.what.empty())
        error.what = text_at(json, "error");
    if (error.what.empty()) {
        static constexpr std::size_t longest = 400;
        error.what = "status " + std::to_string(status) + (body.empty() ? "" : ": " + printable(body, longest));
    }
    const auto code = text_at(json, "code");
    for (std::size_t i = 0; i < errc_count; ++i)
        if (error_name(static_cast<Errc>(i)) == code) {
            error.code = static_cast<Errc>(i);
            error.hint = text_at(json, "hint");
        }
    return error;
}

namespace {

/// {key="value",key="value"} of Prometheus' text format, without the escapes that inox's ids cannot need.
Json labels_of(std::string_view text) {
    Json labels = Json::object();
    for (auto at = text.find("=\""); at != text.npos && at > 0; at = text.find("=\"")) {
        const auto end = text.find('"', at + 2);
        if (end == text.npos)
            break;
        labels[std::string{text.substr(1, at - 1)}] = text.substr(at + 2, end - at - 2);
        text.remove_prefix(end + 1);
    }
    return labels;
}

} // namespace

std::string metrics_json(std::string_view prometheus) {
    Json samples = Json::array();
    std::string type;
    while (!prometheus.empty()) {
        const auto line = prometheus.substr(0, prometheus.find('\n'));
        prometheus.remove_prefix(std::min(line.size() + 1, prometheus.size()));
        const auto space = line.rfind(' ');
        if (line.starts_with("# TYPE ")) {
            type = line.substr(space + 1);
            continue;
        }
        if (line.starts_with('#') || space == line.npos)
            continue;
        const auto name = line.substr(0, std::min(line.find('{'), space));
        const auto value = parse(line.substr(space + 1));
        samples.push_back({{"name", name},
                           {"labels", labels_of(line.substr(name.size(), space - name.size()))},
                           {"type", type},
                           {"value", value.is_discarded() ? Json(nullptr) : value}});
    }
    return samples.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string pretty(std::string_view body) {
    const auto json = parse(body);
    return (json.is_discarded() ? std::string{body} : json.dump(2, ' ', false, Json::error_handler_t::replace)) + "\n";
}

std::string object_text(const std::vector<std::pair<std::string, std::string>>& members) {
    std::string out = "{";
    for (const auto& [name, value] : members)
        out += (out.size() == 1 ? "" : ",") + quoted_json(name) + ":" + value;
    return out + "}";
}

std::string json_or_quoted(std::string_view word) {
    const auto json = parse(word);
    return json.is_discarded() ? quoted_json(word) : std::string{word};
}

std::string quoted_json(std::string_view text) {
    return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

} // namespace inox::api
