// SPDX-License-Identifier: Apache-2.0
// Operations that Firecracker does not have: /inox/.
#include <algorithm>
#include <chrono>
#include <unistd.h>

#include "api/firecracker/json_config.hpp"
#include "api/json_events.hpp"
#include "api/json_views.hpp"
#include "api/openapi.hpp"
#include "api/query.hpp"
#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"
#include "vmm/config/config_json.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/instance/confinement/confinement.hpp"
#include "vmm/instance/exits/report.hpp"

namespace inox::api {

namespace {

/// Under /inox/, something that does not exist has a status of its own.
Response refuse(Error error) {
    if (error.code == Errc::not_found && error.hint.empty())
        error.hint = "see /inox/devices";
    return refusal(error, {}, error.code == Errc::not_found ? 404 : 400);
}

Json device_json(const Machine& machine, const DeviceStatus& status) {
    Json out{{"id", status.name.id},
             {"kind", kind_name(status.name.kind)},
             {"state", status.state == DeviceState::active ? "active" : "ejecting"},
             {"address", status.address ? Json(status.address->text()) : Json(nullptr)}};
    if (const auto device = machine.devices().device(status.name)) {
        const auto& counters = device->counters();
        out["driver_active"] = device->active();
        out["kicks"] = counters.kicks.load();
        out["interrupts"] = counters.interrupts.load();
        out["broken_rings"] = counters.broken_rings.load();
        out["bad_requests"] = counters.bad_requests.load();
    }
    return out;
}

/// The device's name: its id, and its kind where several kinds have it.
Result<DeviceName> name_of(const Machine& machine, const std::string& id, std::optional<DeviceKind> kind) {
    if (kind)
        return DeviceName{*kind, id};
    return machine.devices().find(id);
}

std::string hex(std::uint64_t value) { return format("%#llx", static_cast<unsigned long long>(value)); }

/// Null: this run has none.
Json broker_json(const Instance& instance) {
    using State = confine::Broker::State;
    const auto state = instance.confinement() != nullptr ? instance.confinement()->broker_state() : std::nullopt;
    if (!state)
        return nullptr;
    return *state == State::answers ? "answers" : *state == State::silent ? "silent" : "ended";
}

/// One page of a domain's mappings.
Response mappings_page(const Machine* machine, std::uint32_t domain, std::uint64_t from, std::size_t limit) {
    if (machine == nullptr || !machine->views().mappings)
        return refuse(make_error(Errc::not_found, "there is no IOMMU", "start with --iommu"));
    const auto found = machine->views().mappings(domain, from, limit);
    if (!found)
        return refuse(make_error(Errc::not_found, "there is no domain " + std::to_string(domain), "see /inox/iommu"));
    Json items = Json::array();
    for (const auto& mapping : found->items)
        items.push_back(mapping_json(mapping));
    return ok({{"items", std::move(items)},
               {"next", found->next ? Json(hex(*found->next)) : Json(nullptr)},
               {"total", found->total}});
}

/// An action that answers with what `work(Services&)` returns; the path takes no parameters.
template <class F> Prepared plain(const Call& call, F work) {
    const Query query{call.request.query, {}};
    if (query.refusal())
        return *query.refusal();
    return answering(std::move(work));
}
/// The same for a page of the list that `work` returns.
template <class F> Prepared paged(const Call& call, F work) {
    Query query{call.request.query, {"offset", "limit"}};
    const auto window = page_window(query);
    if (query.refusal())
        return *query.refusal();
    return answering([window, work = std::move(work)](Services& services) { return page(work(services), window); });
}

Prepared no_template(const Query& query) {
    if (query.refusal())
        return *query.refusal();
    return refusal(Errc::wrong_state, "this is a guest, and no template",
                   "save it with inox ctl snapshot, and start inox template with the folder");
}

} // namespace

namespace {

constexpr std::size_t most_in_whole = 1000; ///< elements of a list that has pages, when no page is asked for

} // namespace

Prepared get_openapi(Call& call) {
    return plain(call, [](Services& /*services*/) {
        return Response{200, std::string{openapi_json()}, "application/json", false};
    });
}

Prepared get_status(Call& call) {
    return plain(call, [](Services& services) {
        const auto& instance = services.instance;
        const auto& config = instance.file().config;
        const auto* machine = instance.machine();
        const auto us = [&](Timeline::Step step) -> Json {
            const auto at = instance.timeline().at(step);
            return at == 0 ? Json(nullptr) : Json(at / 1000);
        };
        return ok({{"id", instance.identity().id},
                   {"state", state_text(instance.state())},
                   {"inox_version", INOX_VERSION},
                   {"pid", ::getpid()},
                   {"vcpus", config.machine.cpus},
                   {"memory_bytes", config.machine.memory},
                   {"pci", config.machine.transport == Transport::pci},
                   {"broker", broker_json(instance)},
                   {"exits", machine != nullptr ? machine->exits() : 0},
                   {"devices", machine != nullptr ? machine->devices().list().size() : 0},
                   {"first_instruction_us", us(Timeline::Step::first_instruction)},
                   {"first_serial_byte_us", us(Timeline::Step::first_serial_byte)},
                   {"user_space_up_us", us(Timeline::Step::user_space_up)},
                   {"open_connections", services.server.open.load()},
                   {"event_readers", services.server.streams.load()}});
    });
}

Prepared get_exits(Call& call) {
    return plain(call, [](Services& services) {
        return Response{200, exits_json(services.instance.exit_counts()), "application/json", false};
    });
}

Prepared get_devices(Call& call) {
    return paged(call, [](Services& services) {
        Json list = Json::array();
        if (const auto* machine = services.instance.machine())
            for (const auto& status : machine->devices().list())
                list.push_back(device_json(*machine, status));
        return list;
    });
}

Prepared get_device(Call& call) {
    Query query{call.request.query, {"kind"}};
    const auto kind = query.kind();
    if (query.refusal())
        return *query.refusal();
    return answering([id = call.id, kind](Services& services) {
        const auto* machine = services.instance.machine();
        if (machine == nullptr)
            return refuse(make_error(Errc::not_found, "Device not found", "there are none before the start"));
        const auto name = name_of(*machine, id, kind);
        if (!name)
            return refuse(name.error());
        for (const auto& status : machine->devices().list())
            if (status.name == *name)
                return ok(device_json(*machine, status));
        return refuse(make_error(Errc::not_found, "Device not found", "see /inox/devices"));
    });
}

// A template's process answers these (vmm/template).

Prepared put_spawn(Call& call) { return no_template(Query{call.request.query, {}}); }

Prepared get_clones(Call& call) {
    Query query{call.request.query, {"offset", "limit"}};
    (void)page_window(query);
    return no_template(query);
}

Prepared put_dump(Call& call) {
    if (const Query query{call.request.query, {}}; query.refusal())
        return *query.refusal();
    const auto body = read_object(call.request.body, {{"path", FieldSpec::Type::text}});
    if (body.refusal)
        return *body.refusal;
    return Action{
        [path = body.root["path"].get<std::string>()](Services& services, const std::shared_ptr<Exchange>& exchange) {
            services.instance.dump(path, [exchange, path](const Result<std::uint64_t>& bytes) {
                exchange->answer(bytes ? ok({{"path", path}, {"bytes", *bytes}}) : refuse(bytes.error()));
            });
        }};
}

namespace {

/// A press of a button: the body is an empty object.
template <class F> Prepared press(const Call& call, F button) {
    if (const Query query{call.request.query, {}}; query.refusal())
        return *query.refusal();
    const auto body = read_object(call.request.body, {});
    if (body.refusal)
        return *body.refusal;
    return answering([button](Services& services) {
        const auto pressed = button(services.instance);
        return pressed ? done() : refuse(pressed.error());
    });
}

} // namespace

Prepared put_nmi(Call& call) {
    return press(call, [](Instance& instance) { return instance.send_nmi(); });
}

Prepared put_power_button(Call& call) {
    return press(call, [](Instance& instance) { return instance.press_power_button(); });
}

namespace {

std::vector<std::string_view> plugged_kinds() {
    std::vector<std::string_view> names;
    DeviceKinds::each([&]<class Options>() {
        if (Kind<Options>::plugged)
            names.push_back(Kind<Options>::name);
    });
    return names;
}

/// `value`: a device's section of the configuration, which may omit the id.
template <class Options> Prepared plug(const std::string& id, nlohmann::json value) {
    if (value.is_object()) {
        for (const std::string_view key : {Kind<Options>::id_key, std::string_view{"id"}})
            if (const auto given = value.find(std::string{key});
                given != value.end() && !given->is_null() && *given != id)
                return refusal(Errc::bad_option, "The id from the path does not match the id from the body!",
                               "leave " + std::string{key} + " out: the path has it");
        if (!Kind<Options>::id_key.empty())
            value[std::string{Kind<Options>::id_key}] = id;
    }
    const auto body = read_section(Kind<Options>::section, JsonText{std::move(value), {}}, {}, Dialect::inox);
    if (body.refusal)
        return *body.refusal;
    auto device = *device_of<Options>(body.file.config);
    Kind<Options>::id(device) = id;
    return Action{[device = std::move(device)](Services& services, const std::shared_ptr<Exchange>& exchange) {
        services.instance.add_device(device, [exchange](const Result<DeviceStatus>& added) {
            exchange->answer(added ? done()
                                   : refusal(added.error())); // 400 also for what is not found: the path is there
        });
    }};
}

} // namespace

Prepared put_device(Call& call) {
    if (const Query query{call.request.query, {}}; query.refusal())
        return *query.refusal();
    if (!is_id(call.id))
        return refusal(Errc::config_value, in_quotes(call.id) + " is not an id", id_rule);
    // {"disk": {...}}: a section of the configuration, without the id.
    auto json = read_json(call.request.body);
    if (!json.problems.empty())
        return body_refusal(json.problems.front(), {json.root, call.request.body});
    const auto wrong = [](std::string what) {
        return refusal(Errc::config_value, std::move(what),
                       "send {KIND: {...}}, where KIND is " + list_text(plugged_kinds()));
    };
    if (!json.root.is_object() || json.root.empty())
        return wrong("the body names no kind of device");
    if (json.root.size() > 1) {
        std::string names;
        for (const auto& [name, unused] : json.root.items())
            names += (names.empty() ? "" : ", ") + in_quotes(name);
        return wrong("the body names " + std::to_string(json.root.size()) +
                     " kinds of device where it takes one: " + printable(names));
    }
    const auto named = json.root.begin();
    std::optional<Prepared> prepared;
    if (const auto kind = parse_kind(named.key()))
        DeviceKinds::with(*kind, [&]<class Options>() {
            if constexpr (Kind<Options>::plugged)
                prepared = plug<Options>(call.id, named.value());
        });
    return prepared ? std::move(*prepared)
                    : wrong(in_quotes(named.key()) + " is not a kind of device that can be plugged in");
}

Prepared delete_device(Call& call) {
    Query query{call.request.query, {"kind", "force"}};
    const auto kind = query.kind();
    const bool forced = query.boolean("force");
    if (query.refusal())
        return *query.refusal();
    return answering([id = call.id, kind, forced](Services& services) {
        constexpr auto vfio = kind_of<VfioConfig>;
        if (kind.value_or(vfio) == vfio && services.instance.cancel_device({vfio, id}))
            return done();
        const auto name = name_of(*services.instance.machine(), id, kind);
        if (!name)
            return refuse(name.error());
        const auto how = forced ? Removal::forced : Removal::asked;
        const auto removed = services.instance.remove_device(*name, how);
        return removed ? done() : refuse(removed.error());
    });
}

Prepared get_irqs(Call& call) {
    return paged(call, [](Services& services) {
        Json list = Json::array();
        if (const auto* machine = services.instance.machine())
            for (const auto& route : machine->interrupt_routes())
                list.push_back({{"gsi", route.gsi},
                                {"address", hex(route.message.address)},
                                {"data", hex(route.message.data)},
                                {"vector", route.message.data & 0xff},
                                {"destination", (route.message.address >> 12) & 0xff}});
        return list;
    });
}

Prepared get_events(Call& call) {
    Query query{call.request.query, {"since"}};
    const auto since = query.number("since").value_or(0);
    if (query.refusal())
        return *query.refusal();
    return Action{[since](Services& services, const std::shared_ptr<Exchange>& exchange) {
        stream_events(services.instance.events(), exchange, since);
    }};
}

Prepared get_iommu(Call& call) {
    Query query{call.request.query, {"domain", "from", "offset", "limit"}};
    const auto domain = query.number("domain", UINT32_MAX);
    const auto from = query.address("from").value_or(0);
    const bool wants_page = query.has("offset") || query.has("limit");
    const auto window = page_window(query);
    query.needs("from", "domain");
    query.excludes("offset", "domain");
    if (query.refusal())
        return *query.refusal();
    return answering([domain, from, wants_page, window](Services& services) {
        const auto* machine = services.instance.machine();
        if (domain)
            return mappings_page(machine, static_cast<std::uint32_t>(*domain), from, window.limit);
        const auto report = machine != nullptr && machine->views().iommu ? machine->views().iommu() : std::nullopt;
        auto json = report ? iommu_json(*report) : Json{{"present", false}};
        if (wants_page)
            return page(report ? json.at("domains") : Json::array(), window);
        if (report && report->domains.size() > most_in_whole)
            json["domains"].erase(json["domains"].begin() + most_in_whole, json["domains"].end());
        return ok(json);
    });
}

Prepared get_pasids(Call& call) {
    Query query{call.request.query, {"offset", "limit"}};
    const bool wants_page = query.has("offset") || query.has("limit");
    const auto window = page_window(query);
    if (query.refusal())
        return *query.refusal();
    return answering([wants_page, window](Services& services) {
        const auto* machine = services.instance.machine();
        const auto skip = wants_page ? window.offset : 0;
        const auto most = wants_page ? window.limit : most_in_whole;
        const auto report =
            machine != nullptr && machine->views().pasids ? machine->views().pasids(skip, most) : std::nullopt;
        const auto json = report ? pasids_json(*report) : Json{{"present", false}};
        if (!wants_page)
            return ok(json);
        return ok({{"items", report ? json.at("ids") : Json::array()},
                   {"offset", window.offset},
                   {"total", report ? json.at("id_count") : Json(0)}});
    });
}

Prepared get_prometheus(Call& call) {
    return plain(call, [](Services& services) {
        return Response{200, prometheus_text(services.instance.samples()), "text/plain; version=0.0.4", false};
    });
}

} // namespace inox::api
