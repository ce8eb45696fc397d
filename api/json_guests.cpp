// SPDX-License-Identifier: Apache-2.0
#include "api/json_guests.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "api/client.hpp"
#include "api/json_tables.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::api {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds for_one{500};
constexpr std::chrono::seconds for_all{3};

/// An object, or null.
Json ask(const GuestEntry& guest, const char* target, Clock::time_point end) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0)
        return nullptr;
    const auto answer = Client{guest.socket, std::min(left, for_one)}.call("GET", target);
    auto json = answer && answer->status == 200 ? Json::parse(answer->body, nullptr, false) : Json{};
    return json.is_object() ? json : Json{};
}

Json member(const Json& object, const char* key) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    return object.is_object() && found != object.end() ? *found : Json{};
}

Json describe(const GuestEntry& guest, Clock::time_point end) {
    const auto status = ask(guest, "/inox/status", end);
    const auto config = status.is_null() ? Json{} : ask(guest, "/vm/config", end);
    const auto state = member(status, "state");
    return {{"id", guest.id},
            {"pid", guest.pid},
            {"state", state.is_string() ? state : Json("no answer")},
            {"uptime_s", guest.age.count()},
            {"socket", guest.socket},
            {"kernel", member(member(config, "boot-source"), "kernel_image_path")},
            {"memory_bytes", member(status, "memory_bytes")},
            {"vcpus", member(status, "vcpus")}};
}

Json describe_all(std::span<const GuestEntry> guests) {
    const auto end = Clock::now() + for_all;
    Json all = Json::array();
    for (const auto& guest : guests)
        all.push_back(describe(guest, end));
    return all;
}

/// "3d 4h", "4h 5m", "5m 6s" or "6s".
std::string age_text(std::int64_t seconds) {
    struct Unit {
        std::int64_t seconds;
        char name;
    };
    static constexpr std::array<Unit, 4> units{{{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}}};
    for (std::size_t i = 0; i + 1 < units.size(); ++i)
        if (seconds >= units[i].seconds)
            return std::to_string(seconds / units[i].seconds) + units[i].name + " " +
                   std::to_string(seconds % units[i].seconds / units[i + 1].seconds) + units[i + 1].name;
    return std::to_string(seconds) + "s";
}

/// As the table shows it.
Json row(const Json& guest) {
    const auto& memory = guest.at("memory_bytes");
    const bool answered = !guest.at("vcpus").is_null();
    Json out = guest;
    out["uptime"] = age_text(guest.at("uptime_s").get<std::int64_t>());
    if (memory.is_number_unsigned())
        out["memory"] = size_text(memory.get<std::uint64_t>());
    if (guest.at("kernel").is_null() && answered)
        out["kernel"] = "built-in";
    return out;
}

} // namespace

std::string guests_text(std::span<const GuestEntry> guests) {
    Json rows = Json::array();
    for (const auto& guest : describe_all(guests))
        rows.push_back(row(guest));
    return table_text(View::guests,
                      Json{{"guests", std::move(rows)}}.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string guests_json(std::span<const GuestEntry> guests) {
    return describe_all(guests).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace inox::api
