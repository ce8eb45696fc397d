// SPDX-License-Identifier: Apache-2.0
#include "vmm/template/service.hpp"

#include <unistd.h>

#include "api/json_events.hpp"
#include "api/json_spawn.hpp"
#include "api/openapi.hpp"
#include "api/query.hpp"
#include "api/routes_reply.hpp"

namespace inox::clones {

using api::Exchange;
using api::Json;
using api::Request;
using api::Response;
using Method = api::Method;

namespace {

Json clone_json(const Clone& clone) {
    const auto us = [](std::chrono::nanoseconds time) { return time.count() / 1000; };
    return {{"id", clone.id.empty() ? Json(nullptr) : Json(clone.id)},
            {"pid", clone.pid},
            {"socket", clone.socket.empty() ? Json(nullptr) : Json(clone.socket)},
            {"first_instruction_us", clone.first_instruction ? Json(us(*clone.first_instruction)) : Json(nullptr)}};
}

/// An option of the command line stands for a place in a configuration.
Response refuse(const Error& error, const Json& clones = Json::array()) {
    auto told = error;
    told.what = error.where.empty() ? error.what : error.where + ": " + error.what;
    auto out = api::refusal(told);
    if (!clones.empty()) {
        auto body = Json::parse(out.body);
        body["clones"] = clones;
        out.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    return out;
}

std::optional<Response> unwanted_query(const Request& request) { return api::Query{request.query, {}}.refusal(); }

} // namespace

/// The clones of one request, one after the other.
struct Service::Batch {
    std::shared_ptr<Exchange> exchange;
    std::string body;
    std::shared_ptr<std::vector<UniqueFd>> descriptors;
    unsigned count{1};
    unsigned made{0};
    Json clones = Json::array();
};

Result<std::unique_ptr<Service>> Service::create(const api::ServerOptions& options, EventLoop& loop, Template& made,
                                                 std::string id) {
    std::unique_ptr<Service> service{new Service{made, std::move(id)}};
    service->server_ = TRY(api::Server::create(
        options,
        [raw = service.get()](Request request, const std::shared_ptr<Exchange>& exchange) {
            raw->handle(std::move(request), exchange);
        },
        loop));
    return service;
}

Service::~Service() = default;

void Service::handle(Request request, const std::shared_ptr<Exchange>& exchange) {
    const auto is = [&](Method method, std::string_view path) {
        return request.method == method && request.path == path;
    };
    if (is(Method::put, "/inox/spawn"))
        return spawn(request, exchange);
    if (is(Method::get, "/inox/events")) {
        api::Query query{request.query, {"since"}};
        const auto since = query.number("since").value_or(0);
        return query.refusal() ? exchange->answer(*query.refusal())
                               : stream_events(template_.events(), exchange, since);
    }
    if (is(Method::get, "/inox/clones"))
        return exchange->answer(list(request.query));
    if (const auto refusal = unwanted_query(request))
        return exchange->answer(*refusal);
    if (is(Method::get, "/inox/status"))
        return exchange->answer(status());
    if (is(Method::get, "/inox/openapi.json"))
        return exchange->answer({200, std::string{api::openapi_json()}, "application/json", false});
    exchange->answer(
        api::refusal(make_error(Errc::not_found,
                                "a template has no " + std::string{method_name(request.method)} + " " + request.path,
                                "it has /inox/spawn, /inox/clones, /inox/status, /inox/events and "
                                "/inox/openapi.json; ask a clone for the rest"),
                     {}, 404));
}

Response Service::status() const {
    const auto& saved = template_.saved();
    const std::chrono::duration<double> up = std::chrono::steady_clock::now() - began_;
    return api::ok({{"id", id_.empty() ? "template" : id_},
                    {"state", "Template"},
                    {"inox_version", INOX_VERSION},
                    {"pid", ::getpid()},
                    {"vcpus", saved.config.machine.cpus},
                    {"memory_bytes", saved.config.machine.memory},
                    {"saved_at", saved.origin.saved_at},
                    {"clones", template_.clones().size()},
                    {"spawned", template_.spawned()},
                    {"uptime_s", up.count()}});
}

Response Service::list(const std::string& text) const {
    api::Query query{text, {"offset", "limit"}};
    const auto window = api::page_window(query);
    if (query.refusal())
        return *query.refusal();
    Json all = Json::array();
    for (const auto& [pid, clone] : template_.clones())
        all.push_back(clone_json(clone));
    return api::page(all, window);
}

void Service::spawn(const Request& request, const std::shared_ptr<Exchange>& exchange) {
    if (const auto refusal = unwanted_query(request))
        return exchange->answer(*refusal);
    const auto count = api::read_spawn_count(request.body);
    if (!count)
        return exchange->answer(refuse(count.error()));
    const auto batch = std::make_shared<Batch>();
    batch->exchange = exchange;
    batch->body = request.body;
    batch->descriptors = request.descriptors;
    batch->count = *count;
    next(batch);
}

void Service::next(const std::shared_ptr<Batch>& batch) {
    if (batch->made == batch->count)
        return batch->exchange->answer(api::ok({{"clones", batch->clones}}));
    const auto give_up = [batch](const Error& why) { batch->exchange->answer(refuse(why, batch->clones)); };
    static const std::vector<UniqueFd> none;
    const auto& descriptors = batch->descriptors ? *batch->descriptors : none;
    auto asked = api::read_spawn(batch->body, ++batch->made, batch->count, descriptors);
    if (!asked)
        return give_up(asked.error());
    Order order{.names = std::move(asked->names),
                .passed = std::move(asked->passed),
                .descriptors = {},
                .begin = asked->paused ? Machine::Begin::paused : Machine::Begin::running,
                .clock = asked->clock};
    for (const auto& one : descriptors)
        order.descriptors.push_back(one.get());
    template_.spawn(std::move(order), [this, batch, give_up](Result<Clone> clone) {
        if (!clone)
            return give_up(clone.error());
        batch->clones.push_back(clone_json(*clone));
        next(batch);
    });
}

} // namespace inox::clones
