// SPDX-License-Identifier: Apache-2.0
#include "api/service.hpp"

#include <algorithm>
#include <array>

#include "api/firecracker/protocol.hpp"
#include "api/routes.hpp"
#include "vmm/base/log.hpp"

namespace inox::api {
namespace {

using Clock = std::chrono::steady_clock;

/// Requests by method, and how many of them were refused. Thread-safe.
struct RequestCounters {
    std::array<std::atomic<std::uint64_t>, 4> count{};
    std::array<std::atomic<std::uint64_t>, 4> fails{};
    log::Throttle refusals{10}; ///< limits their log lines, as a client may repeat a refused request without end
};

/// What lives as long as the API.
struct Service {
    Service(EventLoop& of, Instance& acted_on) : loop{of}, instance{acted_on} {}
    EventLoop& loop;
    Instance& instance;
    RequestCounters requests{};
    Registration samples{};
    std::unique_ptr<Server> server{}; // destroyed first
};

/// Logs the answer as Firecracker does, and counts it.
class Observed final : public Exchange {
public:
    Observed(std::shared_ptr<Exchange> inner, RequestCounters& counters, Method method)
        : inner_{std::move(inner)}, counters_{counters}, method_{static_cast<std::size_t>(method)} {}

    void answer(Response response) override {
        ++counters_.count[method_];
        if (response.status < 300)
            firecracker::log_answer(response.status, {});
        else if (++counters_.fails[method_]; counters_.refusals.allow())
            firecracker::log_answer(response.status, fault_message(response));
        log_duration();
        inner_->answer(std::move(response));
    }
    std::shared_ptr<Stream> stream(std::string content_type) override {
        auto stream = inner_->stream(std::move(content_type));
        if (stream) {
            ++counters_.count[method_];
            log_duration();
        }
        return stream;
    }

private:
    void log_duration() const {
        firecracker::log_duration(std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - began_));
    }

    std::shared_ptr<Exchange> inner_;
    RequestCounters& counters_; // of the Service, which outlives all actions that the loop holds
    std::size_t method_;
    Clock::time_point began_{Clock::now()};
};

void handle(Service& service, Request request, std::shared_ptr<Exchange> exchange) {
    const auto found = find_route(request);
    firecracker::log_request(request, found.route != nullptr && found.route->secret ? firecracker::BodyIs::secret
                                                                                    : firecracker::BodyIs::open);
    auto observed = std::make_shared<Observed>(std::move(exchange), service.requests, request.method);
    auto prepared = prepare(found, std::move(request));
    if (auto* response = std::get_if<Response>(&prepared))
        return observed->answer(std::move(*response));
    service.loop.post_urgent([&service, action = std::move(std::get<Action>(prepared)), observed]() mutable {
        Services services{service.instance, service.server->counters()};
        action(services, observed);
    });
}

void add_samples(const Service& service, Samples& samples) {
    static constexpr const char* groups[] = {"get_api_requests", "put_api_requests", "patch_api_requests",
                                             "delete_api_requests"};
    for (std::size_t i = 0; i < std::size(groups); ++i) {
        samples.push_back({groups[i], {}, "count", service.requests.count[i], {}});
        samples.push_back({groups[i], {}, "fails", service.requests.fails[i], {}});
    }
    const auto& server = service.server->counters();
    const auto add = [&](const char* name, std::uint64_t value, Sample::Type type = {}) {
        samples.push_back({"api_server", {}, name, value, type});
    };
    add("connections", server.connections);
    add("open_connections", server.open, Sample::Type::gauge);
    add("open_streams", server.streams, Sample::Type::gauge);
    add("requests", server.requests);
    add("refused_full", server.refused_full);
    add("refused_descriptors", server.refused_descriptors);
    add("refused_streams", server.refused_streams);
    add("closed_idle", server.closed_idle);
    add("refused_peer", server.refused_peer);
    add("malformed", server.malformed);
    add("timed_out", server.timed_out);
    add("dropped_readers", server.dropped_readers);
    add("refusals_not_logged", service.requests.refusals.suppressed());
}

} // namespace

Result<Registration> serve(const ServerOptions& options, EventLoop& loop, Instance& instance) {
    auto service = std::make_shared<Service>(loop, instance);
    // The handler runs on the server's thread, which ends before the service is destroyed.
    service->server = TRY(Server::create(options, [raw = service.get()](Request request, auto exchange) {
        handle(*raw, std::move(request), std::move(exchange));
    }));
    service->samples = instance.add_samples([raw = service.get()](Samples& out) { add_samples(*raw, out); });
    firecracker::log_listening(options.path);
    return Registration{[service]() mutable {
        service->samples.reset();
        service->server.reset();
    }};
}

} // namespace inox::api
