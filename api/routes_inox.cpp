// SPDX-License-Identifier: Apache-2.0
// What Firecracker does not have: /inox/.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <unistd.h>

#include "api/json_views.hpp"
#include "api/openapi.hpp"
#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"
#include "vmm/machine/config_json.hpp"
#include "vmm/machine/config_text.hpp"

namespace api {

using vmm::Errc;
using vmm::Error;

namespace {

/// Under /inox/ what is not there has a status of its own.
Response refuse(Error error) {
    if (error.code == Errc::not_found && error.hint.empty())
        error.hint = "see /inox/devices";
    return refusal(error, {}, error.code == Errc::not_found ? 404 : 400);
}

Json device_json(const vmm::Machine& machine, const vmm::DeviceStatus& status) {
    Json out{{"id", status.name.id},
             {"kind", vmm::kind_name(status.name.kind)},
             {"state", status.state == vmm::DeviceState::active ? "active" : "ejecting"},
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

/// The device's name: its id, and ?kind= where several kinds have it.
vmm::Result<vmm::DeviceName> name_of(const vmm::Machine& machine, const std::string& id, const std::string& query) {
    const auto kind = query_value(query, "kind");
    if (!kind)
        return machine.devices().find(id);
    const auto parsed = vmm::parse_kind(*kind);
    if (!parsed)
        return vmm::fail(Errc::bad_option, vmm::in_quotes(*kind) + " is no kind of device",
                         "disk, net, vsock, entropy, balloon, console, share, iommu or vfio");
    return vmm::DeviceName{*parsed, id};
}

std::string hex(std::uint64_t value) { return vmm::format("%#llx", static_cast<unsigned long long>(value)); }

std::string time_text(std::chrono::system_clock::time_point time) {
    const auto since = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
    const std::time_t seconds = since / 1'000'000;
    tm parts{};
    ::gmtime_r(&seconds, &parts);
    return vmm::format("%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                       parts.tm_hour, parts.tm_min, parts.tm_sec, static_cast<long>(since % 1'000'000));
}

std::string event_line(const vmm::Event& event) {
    Json out{{"sequence", event.sequence}, {"time", time_text(event.time)}, {"event", event.kind}};
    for (const auto& [name, value] : event.details)
        out[name] = value;
    return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// Keeps the subscription as long as the reader reads.
void stream_events(vmm::Instance& instance, const std::shared_ptr<Exchange>& exchange, std::uint64_t since) {
    auto stream = exchange->stream("application/x-ndjson");
    for (const auto& event : instance.events().recent())
        if (event.sequence > since)
            stream->write(event_line(event));
    instance.events().watch([stream](const vmm::Event* event) {
        return stream->write(event != nullptr ? event_line(*event) : std::string{});
    });
}

/// Hexadecimal, all of the text.
bool parse_address(std::string_view text, std::uint64_t& address) {
    if (text.starts_with("0x"))
        text.remove_prefix(2);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), address, 16);
    return error == std::errc{} && end == text.data() + text.size();
}

/// One domain's mappings.
Response mappings_page(const vmm::Machine* machine, const std::string& domain, const std::string& query) {
    const auto number = vmm::parse_number(domain);
    if (!number || *number > UINT32_MAX)
        return refusal(Errc::bad_option, vmm::in_quotes(domain) + " is no domain", "see /inox/iommu");
    if (machine == nullptr || !machine->views().mappings)
        return refuse({Errc::not_found, "there is no IOMMU", "start with --iommu", {}, 0});
    const auto window = page_window(query);
    if (window.refusal)
        return *window.refusal;
    std::uint64_t from = 0;
    if (const auto text = query_value(query, "from"))
        if (!parse_address(*text, from))
            return refusal(Errc::bad_option, vmm::in_quotes(*text) + " is no address", "write ?from=0x1000");
    const auto found = machine->views().mappings(static_cast<std::uint32_t>(*number), from, window.limit);
    if (!found)
        return refuse({Errc::not_found, "there is no domain " + domain, "see /inox/iommu", {}, 0});
    Json items = Json::array();
    for (const auto& mapping : found->items)
        items.push_back(mapping_json(mapping));
    return ok({{"items", std::move(items)},
               {"next", found->next ? Json(hex(*found->next)) : Json(nullptr)},
               {"total", found->total}});
}

} // namespace

Prepared get_openapi(Call& /*call*/) { return Response{200, std::string{openapi_json()}, "application/json", false}; }

Prepared get_status(Call& /*call*/) {
    return answering([](Services& services) {
        const auto& instance = services.instance;
        const auto& config = instance.file().config;
        const auto* machine = instance.machine();
        const auto us = [&](vmm::Timeline::Step step) -> Json {
            const auto at = instance.timeline().at(step);
            return at == 0 ? Json(nullptr) : Json(at / 1000);
        };
        return ok({{"id", instance.identity().id},
                   {"state", instance.state_text()},
                   {"inox_version", INOX_VERSION},
                   {"pid", ::getpid()},
                   {"vcpus", config.machine.cpus},
                   {"memory_bytes", config.machine.memory},
                   {"pci", config.machine.transport == vmm::Transport::pci},
                   {"exits", machine != nullptr ? machine->exits() : 0},
                   {"devices", machine != nullptr ? machine->devices().list().size() : 0},
                   {"first_instruction_us", us(vmm::Timeline::Step::first_instruction)},
                   {"first_serial_byte_us", us(vmm::Timeline::Step::first_serial_byte)},
                   {"user_space_up_us", us(vmm::Timeline::Step::user_space_up)},
                   {"open_connections", services.server.open.load()}});
    });
}

Prepared get_devices(Call& call) {
    return answering([query = call.request.query](Services& services) {
        Json list = Json::array();
        if (const auto* machine = services.instance.machine())
            for (const auto& status : machine->devices().list())
                list.push_back(device_json(*machine, status));
        return page(list, query);
    });
}

Prepared get_device(Call& call) {
    return answering([id = call.id, query = call.request.query](Services& services) {
        const auto* machine = services.instance.machine();
        if (machine == nullptr)
            return refuse({Errc::not_found, "Device not found", "there are none before the start", {}, 0});
        const auto name = name_of(*machine, id, query);
        if (!name)
            return refuse(name.error());
        for (const auto& status : machine->devices().list())
            if (status.name == *name)
                return ok(device_json(*machine, status));
        return refuse({Errc::not_found, "Device not found", "see /inox/devices", {}, 0});
    });
}

namespace {

/// What can be plugged in, and how its section of the configuration is called.
struct Pluggable {
    std::string_view kind;
    std::string_view section;
    std::string_view id_key; ///< of what a section cannot be read without
};
constexpr Pluggable pluggable[] = {
    {"disk", "drives", "drive_id"}, {"net", "network-interfaces", "iface_id"},
    {"vsock", "vsock", {}},         {"entropy", "entropy", {}},
    {"balloon", "balloon", {}},     {"share", "shares", "tag"},
    {"vfio", "vfio", {}},
};

struct IdSetter {
    const std::string& id;
    void operator()(vmm::DriveConfig& drive) const { drive.block.id = id; }
    void operator()(devices::virtio::FsOptions& share) const { share.tag = id; }
    void operator()(vmm::ConsoleConfig& /*console*/) const {}
    void operator()(vmm::VfioConfig& device) const { device.open.id = id; }
    void operator()(auto& other) const { other.id = id; }
};

} // namespace

Prepared put_device(Call& call) {
    // {"disk": {...}}: a section of the configuration, without the id.
    auto json = vmm::read_json(call.request.body);
    if (!json.problems.empty())
        return body_refusal(json.problems.front(), call.request.body, {});
    const auto* row = std::end(pluggable);
    if (json.root.is_object() && json.root.size() == 1)
        row = std::ranges::find(pluggable, json.root.begin().key(), &Pluggable::kind);
    if (row == std::end(pluggable))
        return refusal(Errc::config_value, "the body names no kind of device",
                       "send {\"disk\": {...}}, or net, vsock, entropy, balloon, share or vfio in its place");
    auto value = json.root.begin().value();
    if (value.is_object()) {
        if (!row->id_key.empty())
            value[std::string{row->id_key}] = call.id;
        if (row->kind == "disk" && !value.contains("is_root_device"))
            value["is_root_device"] = false;
    }
    auto body = read_section(row->section, value.dump());
    if (body.refusal)
        return *body.refusal;
    auto devices = vmm::device_configs(body.file.config);
    if (devices.empty())
        return refusal(Errc::unsupported, "not available in this build", "plug in a device of another kind");
    auto& device = devices.front();
    std::visit(IdSetter{call.id}, device);
    return answering([device = std::move(device)](Services& services) {
        const auto added = services.instance.add_device(device);
        return added ? done() : refuse(added.error());
    });
}

Prepared delete_device(Call& call) {
    const auto force = query_value(call.request.query, "force");
    const bool forced = force && *force != "0" && *force != "false";
    return answering([id = call.id, query = call.request.query, forced](Services& services) {
        const auto name = name_of(*services.instance.machine(), id, query);
        if (!name)
            return refuse(name.error());
        const auto how = forced ? vmm::Removal::forced : vmm::Removal::asked;
        const auto removed = services.instance.remove_device(*name, how);
        return removed ? done() : refuse(removed.error());
    });
}

Prepared get_irqs(Call& call) {
    return answering([query = call.request.query](Services& services) {
        Json list = Json::array();
        if (const auto* machine = services.instance.machine())
            for (const auto& route : machine->interrupt_routes())
                list.push_back({{"gsi", route.gsi},
                                {"address", hex(route.message.address)},
                                {"data", hex(route.message.data)},
                                {"vector", route.message.data & 0xff},
                                {"destination", (route.message.address >> 12) & 0xff}});
        return page(list, query);
    });
}

Prepared get_events(Call& call) {
    std::uint64_t since = 0;
    if (const auto text = query_value(call.request.query, "since")) {
        const auto number = vmm::parse_number(*text);
        if (!number)
            return refusal(Errc::bad_option, vmm::in_quotes(*text) + " is no sequence number", "write ?since=0");
        since = *number;
    }
    return Action{[since](Services& services, const std::shared_ptr<Exchange>& exchange) {
        stream_events(services.instance, exchange, since);
    }};
}

Prepared get_iommu(Call& call) {
    return answering([query = call.request.query](Services& services) {
        const auto* machine = services.instance.machine();
        const auto report = machine != nullptr && machine->views().iommu ? machine->views().iommu() : std::nullopt;
        if (const auto text = query_value(query, "domain"))
            return mappings_page(machine, *text, query);
        return ok(report ? iommu_json(*report) : Json{{"present", false}});
    });
}

Prepared get_pasids(Call& call) {
    return answering([query = call.request.query](Services& services) {
        const auto* machine = services.instance.machine();
        const auto report = machine != nullptr && machine->views().pasids ? machine->views().pasids() : std::nullopt;
        if (query_value(query, "offset") || query_value(query, "limit"))
            return page(report ? pasids_json(*report).at("ids") : Json::array(), query);
        return ok(report ? pasids_json(*report) : Json{{"present", false}});
    });
}

Prepared get_prometheus(Call& /*call*/) {
    return answering([](Services& services) {
        return Response{200, vmm::prometheus_text(services.instance.samples()), "text/plain; version=0.0.4", false};
    });
}

} // namespace api
