// SPDX-License-Identifier: Apache-2.0
#include "api/json_spawn.hpp"

#include <algorithm>
#include <array>

#include "api/firecracker/json_config.hpp"
#include "vmm/config/config_json.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::api {
namespace {

using Json = nlohmann::json;
using devices::virtio::FsOptions;
using devices::virtio::NetOptions;
using devices::virtio::VsockOptions;

constexpr auto own_keys =
    std::to_array<std::string_view>({"count", "id", "api_sock", "serial_log", "allow", "paused", "clock"});
constexpr auto sections =
    std::to_array<std::string_view>({Kind<DriveConfig>::section, Kind<NetOptions>::section, Kind<VsockOptions>::section,
                                     Kind<ConsoleConfig>::section, Kind<FsOptions>::section});

Result<Json> read_object(std::string_view body) {
    auto json = read_json(body);
    if (!json.problems.empty())
        return std::unexpected<Error>{std::move(json.problems.front())};
    if (!json.root.is_object())
        return fail(Errc::config_type, "the body is no object", R"(send {} for one clone)");
    std::vector<std::string_view> known{own_keys.begin(), own_keys.end()};
    known.insert(known.end(), sections.begin(), sections.end());
    for (const auto& [key, value] : json.root.items())
        if (std::ranges::find(known, key) == known.end()) {
            std::vector<Error> problems;
            JsonValue{json.root, "", problems}.member(key, value).report_unknown(key, known);
            return std::unexpected<Error>{std::move(problems.front())};
        }
    return std::move(json.root);
}

/// A member that is there and not null.
const Json* member(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<unsigned> count_of(const Json& root) {
    const auto* const count = member(root, "count");
    if (count == nullptr)
        return 1;
    if (!count->is_number_unsigned() || count->get<std::uint64_t>() < 1 || count->get<std::uint64_t>() > most_clones)
        return fail_at("/count", Errc::config_value, "the count is no number from 1 to " + std::to_string(most_clones));
    return count->get<unsigned>();
}

/// {n} in each text.
void number_texts(Json& value, const std::string& number) {
    static constexpr std::string_view mark = "{n}";
    if (value.is_string()) {
        auto& text = value.get_ref<std::string&>();
        for (auto at = text.find(mark); at != text.npos; at = text.find(mark, at + number.size()))
            text.replace(at, mark.size(), number);
    } else if (value.is_structured()) {
        for (auto& one : value)
            number_texts(one, number);
    }
}

/// "fd:N" becomes a path of this process's.
Result<void> name_descriptors(Json& value, std::span<const UniqueFd> descriptors, std::vector<std::string>& passed,
                              bool socket) {
    if (value.is_structured()) {
        for (auto& [key, one] : value.items())
            TRY_VOID(name_descriptors(one, descriptors, passed, key == "api_sock"));
        return {};
    }
    if (!value.is_string() || !value.get_ref<const std::string&>().starts_with("fd:"))
        return {};
    const auto index = parse_number(value.get_ref<const std::string&>().substr(3));
    if (!index || *index >= descriptors.size())
        return fail(Errc::config_value,
                    "'" + value.get<std::string>() + "' names no descriptor of this request, which has " +
                        std::to_string(descriptors.size()),
                    "pass it along (SCM_RIGHTS); they count from 0");
    const auto fd = std::to_string(descriptors[*index].get());
    value = (socket ? "fd:" : "/proc/self/fd/") + fd;
    passed.push_back(value.get<std::string>());
    return {};
}

} // namespace

Result<unsigned> read_spawn_count(std::string_view body) { return count_of(TRY(read_object(body))); }

Result<SpawnAsked> read_spawn(std::string_view body, unsigned number, unsigned count,
                              std::span<const UniqueFd> descriptors) {
    auto root = TRY(read_object(body));
    SpawnAsked out;
    std::vector<Error> problems;
    const JsonValue whole{root, "", problems};
    if (const auto* const id = member(root, "id");
        id != nullptr && id->is_string() && count > 1 && !id->get_ref<const std::string&>().contains("{n}"))
        root["id"] = id->get<std::string>() + "-{n}";
    number_texts(root, std::to_string(number));
    TRY_VOID(name_descriptors(root, descriptors, out.passed, false));
    if (const auto* const paused = member(root, "paused"))
        out.paused = whole.member("paused", *paused).boolean().value_or(false);
    if (const auto* const clock = member(root, "clock")) {
        static constexpr auto words = std::to_array<std::string_view>({"continue", "realtime"});
        if (const auto index = whole.member("clock", *clock).one_of(words))
            out.clock = *index == 0 ? RestoredClock::goes_on : RestoredClock::real_time;
    }
    if (!problems.empty())
        return std::unexpected<Error>{std::move(problems.front())};
    // The rest has the shape of a configuration
    Json config = Json::object();
    for (const auto section : sections)
        if (const auto found = root.find(section); found != root.end() && !found->is_null())
            config[std::string{section}] = *found;
    for (const char* key : {"id", "api_sock", "serial_log", "allow"})
        if (const auto* const value = member(root, key))
            config["inox"][key] = *value;
    auto parsed = parse_config(config.dump(), Dialect::inox, Transport::pci, "/", Rules::later);
    if (!parsed.problems.empty())
        return std::unexpected<Error>{std::move(parsed.problems.front())};
    out.names = std::move(parsed.file);
    return out;
}

std::string spawn_body(const Config& names, const std::vector<std::pair<std::string, std::string>>& own) {
    nlohmann::ordered_json body = nlohmann::ordered_json::object();
    for (const auto& [key, text] : own)
        body[key] = nlohmann::ordered_json::parse(text, nullptr, false);
    for (const auto& device : names.devices)
        std::visit([&]<class Options>(const Options& options) { DeviceView<Options>::add(body, options, names); },
                   device);
    // What is not said stays as it was saved; a key that is null may be refused
    for (auto& section : body)
        for (auto& one : section.is_array() ? section : nlohmann::ordered_json::array())
            for (auto key = one.begin(); one.is_object() && key != one.end();)
                key = key->is_null() ? one.erase(key) : std::next(key);
    return body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

} // namespace inox::api
