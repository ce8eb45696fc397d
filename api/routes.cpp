// SPDX-License-Identifier: Apache-2.0
#include "api/routes.hpp"

#include <algorithm>
#include <array>
#include <exception>

#include "api/firecracker/protocol.hpp"
#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"

namespace inox::api {

namespace {

constexpr auto any = Phase::any;
constexpr auto before = Phase::before_start;
constexpr auto after = Phase::after_start;

constexpr auto table = std::to_array<Route>({
    {Method::get, "/", any, get_instance},
    {Method::get, "/version", any, get_version},
    {Method::get, "/vm/config", any, get_vm_config},
    {Method::patch, "/vm", after, patch_vm},
    {Method::put, "/actions", any, put_actions},
    {Method::get, "/machine-config", any, get_machine_config},
    {Method::put, "/machine-config", before, put_machine_config},
    {Method::patch, "/machine-config", before, patch_machine_config},
    {Method::put, "/cpu-config", before, put_cpu_config},
    {Method::put, "/boot-source", before, put_boot_source},
    {Method::put, "/logger", before, put_logger},
    {Method::put, "/metrics", before, put_metrics},
    {Method::put, "/serial", before, put_serial},
    {Method::put, "/drives/{id}", any, put_drive},
    {Method::patch, "/drives/{id}", after, patch_drive},
    {Method::del, "/drives/{id}", after, delete_drive},
    {Method::put, "/network-interfaces/{id}", any, put_net},
    {Method::patch, "/network-interfaces/{id}", after, patch_net},
    {Method::del, "/network-interfaces/{id}", after, delete_net},
    {Method::put, "/vsock", before, put_vsock},
    {Method::put, "/entropy", before, put_entropy},
    {Method::get, "/balloon", any, get_balloon},
    {Method::put, "/balloon", before, put_balloon},
    {Method::patch, "/balloon", after, patch_balloon},
    {Method::get, "/balloon/statistics", after, get_balloon_statistics},
    {Method::patch, "/balloon/statistics", after, patch_balloon_statistics},
    {Method::get, "/balloon/hinting/status", after, get_balloon_hinting},
    {Method::patch, "/balloon/hinting/start", after, start_balloon_hinting},
    {Method::patch, "/balloon/hinting/stop", after, stop_balloon_hinting},
    {Method::get, "/mmds", any, get_mmds},
    {Method::put, "/mmds", any, put_mmds, true},
    {Method::patch, "/mmds", any, patch_mmds, true},
    {Method::put, "/mmds/config", before, put_mmds_config},
    {Method::put, "/device-passthrough/{id}", before, put_passthrough},
    {Method::put, "/pmem/{id}", any, put_pmem},
    {Method::patch, "/pmem/{id}", any, put_pmem},
    {Method::del, "/pmem/{id}", any, put_pmem},
    {Method::get, "/hotplug/memory", any, put_memory_hotplug},
    {Method::put, "/hotplug/memory", any, put_memory_hotplug},
    {Method::patch, "/hotplug/memory", any, put_memory_hotplug},
    {Method::put, "/snapshot/create", after, put_snapshot_create},
    {Method::put, "/snapshot/load", before, put_snapshot_load},
    {Method::get, "/inox/openapi.json", any, get_openapi},
    {Method::get, "/inox/status", any, get_status},
    {Method::get, "/inox/devices", any, get_devices},
    {Method::get, "/inox/devices/{id}", any, get_device},
    {Method::put, "/inox/devices/{id}", after, put_device},
    {Method::del, "/inox/devices/{id}", after, delete_device},
    {Method::get, "/inox/exits", any, get_exits},
    {Method::get, "/inox/irqs", any, get_irqs},
    {Method::get, "/inox/events", any, get_events},
    {Method::get, "/inox/metrics", any, get_prometheus},
    {Method::get, "/inox/iommu", any, get_iommu},
    {Method::get, "/inox/pasids", any, get_pasids},
    {Method::put, "/inox/dump", after, put_dump},
    {Method::put, "/inox/snapshot", after, put_own_snapshot},
    {Method::del, "/inox/snapshot", after, delete_own_snapshot},
    {Method::put, "/inox/spawn", any, put_spawn},
    {Method::get, "/inox/clones", any, get_clones},
    {Method::put, "/inox/move", after, put_move},
    {Method::del, "/inox/move", after, delete_move},
    {Method::put, "/inox/end", after, put_end},
    {Method::put, "/inox/nmi", after, put_nmi},
    {Method::put, "/inox/power-button", after, put_power_button},
});

/// "drives/x/y" as "drives", "x/y".
std::pair<std::string_view, std::string_view> split(std::string_view path) {
    const auto slash = path.find('/');
    return slash == path.npos ? std::pair{path, std::string_view{}}
                              : std::pair{path.substr(0, slash), path.substr(slash + 1)};
}

std::string first_token(std::string_view path) {
    return std::string{split(path.substr(path.starts_with('/') ? 1 : 0)).first};
}

/// Whether the path fits the pattern; `id` becomes the text in the place of {id}, which may be empty.
bool fits(std::string_view pattern, std::string_view path, std::string& id) {
    const auto brace = pattern.find("{id}");
    if (brace == pattern.npos) {
        if (path.size() > 1 && path.ends_with('/'))
            path.remove_suffix(1);
        return path == pattern;
    }
    const auto folder = pattern.substr(0, brace - 1);
    if (!path.starts_with(folder) || (path.size() > folder.size() && path[folder.size()] != '/'))
        return false;
    id = path.substr(std::min(folder.size() + 1, path.size()));
    if (id.ends_with('/'))
        id.pop_back();
    return id.find('/') == id.npos;
}

/// Firecracker's alphabet. Ids in a configuration file may also have '-'; inox's own paths accept that (`dash`).
bool good_id(std::string_view id, bool dash) {
    return std::ranges::all_of(id, [dash](unsigned char c) {
        return c == '_' || (dash && c == '-') || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    });
}

/// Reduces slashes at the front to one, as Firecracker does.
std::string trimmed(std::string_view path) {
    path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
    return "/" + std::string{path};
}

/// Makes a change wait for the end of a start that is under way. Requests that only read are answered meanwhile.
Action behind_start(Action action) {
    return [action = std::move(action)](Services& services, const std::shared_ptr<Exchange>& exchange) mutable {
        services.instance.after_start(
            [services, exchange, action = std::move(action)]() mutable { action(services, exchange); });
    };
}

Prepared prepare_call(const FoundRoute& found, Request request) {
    const bool own = found.path.starts_with("/inox/");
    const bool writes = request.method == Method::put || request.method == Method::patch;
    const bool optional = found.path.starts_with("/balloon/hinting/");
    if (writes == request.body.empty() && !optional)
        return refusal(firecracker::wrong_body(request.method));
    const Route* route = found.route;
    if (route == nullptr) {
        auto error = firecracker::no_operation(request.method, own ? found.path.substr(1) : first_token(found.path));
        if (own)
            error.code = Errc::not_found;
        return refusal(error, {}, own ? 404 : 400);
    }
    Call call{.id = found.id};
    const bool has_id = route->path.find('{') != route->path.npos;
    if (has_id && call.id.empty())
        return refusal(firecracker::empty_id());
    if (!good_id(call.id, own))
        return refusal(firecracker::wrong_id(own ? "choose another id; '-' may be in it too" : "choose another id"));
    call.request = std::move(request);
    const bool changes = call.request.method != Method::get;
    auto prepared = route->prepare(call);
    if (auto* action = std::get_if<Action>(&prepared)) {
        auto now = during(route->phase, std::move(*action));
        return changes ? behind_start(std::move(now)) : std::move(now);
    }
    return prepared;
}

} // namespace

std::span<const Route> routes() { return table; }

FoundRoute find_route(const Request& request) {
    FoundRoute found{.path = trimmed(request.path)};
    for (const auto& route : table) {
        std::string id;
        if (route.method != request.method || !fits(route.path, found.path, id))
            continue;
        if (found.route == nullptr || found.route->path.find('{') != found.route->path.npos) {
            found.route = &route; // a fixed path is preferred to one with an id
            found.id = std::move(id);
        }
    }
    return found;
}

Action during(Phase phase, Action action) {
    if (phase == Phase::any)
        return action;
    return [phase, action = std::move(action)](Services& services, const std::shared_ptr<Exchange>& exchange) mutable {
        const bool started = services.instance.state() != Instance::State::not_started;
        if (started == (phase == Phase::after_start))
            return action(services, exchange);
        exchange->answer(refusal(firecracker::wrong_phase(started)));
    };
}

Prepared prepare(const FoundRoute& found, Request request) noexcept {
    try {
        return prepare_call(found, std::move(request));
    } catch (const std::exception& error) {
        return refusal(Errc::internal, error.what(), "this is a bug in inox: please report it");
    }
}

} // namespace inox::api
