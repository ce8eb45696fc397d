// SPDX-License-Identifier: Apache-2.0
// Bytes of a connection through parser, routes and, where that touches nothing of the host, the actions.
#include <nlohmann/json.hpp>

#include "api/routes.hpp"
#include "api/server_parser.hpp"
#include "tests/fakes/instance_events.hpp"
#include "tests/fuzz/input.hpp"

using namespace inox;

namespace {

using fuzz::require;

class Exchange final : public api::Exchange {
public:
    void answer(api::Response response) override {
        require(!answered);
        answered = true;
        check(response);
    }
    std::shared_ptr<api::Stream> stream(std::string /*content_type*/) override {
        class Nobody final : public api::Stream {
            bool write(std::string /*piece*/) override { return false; }
        };
        require(!answered);
        answered = true;
        return std::make_shared<Nobody>();
    }
    static void check(const api::Response& response) {
        require(response.status == 200 || response.status == 204 || response.status == 400 || response.status == 404 ||
                response.status == 413);
        require((response.status == 204) == response.body.empty());
        if (response.content_type != "application/json" || response.body.empty())
            return;
        const auto json = nlohmann::json::parse(response.body, nullptr, false);
        require(!json.is_discarded());
        if (response.status >= 400)
            require(json.contains("fault_message") && json.contains("code"));
    }
    bool answered{false};
};

/// The paths whose actions open, make or start something of the host.
bool touches_host(const std::string& path) {
    for (const char* start : {"/logger", "/metrics", "/actions", "/network-interfaces", "/boot-source", "/drives"})
        if (path.starts_with(start))
            return true;
    return false;
}

void handle(Instance& instance, api::Request request) {
    static const api::ServerCounters counters;
    const bool harmless = !touches_host(request.path);
    const auto found = api::find_route(request);
    auto prepared = api::prepare(found, std::move(request));
    if (const auto* response = std::get_if<api::Response>(&prepared))
        return Exchange::check(*response);
    if (!harmless)
        return;
    const auto exchange = std::make_shared<Exchange>();
    api::Services services{instance, counters};
    std::get<api::Action>(prepared)(services, exchange);
    require(exchange->answered);
}

/// How many requests the parser finds when the bytes arrive in pieces of this size.
std::size_t run(std::string_view bytes, std::size_t piece) {
    static EventLoop loop; // never runs: nothing here posts to it
    static Timeline timeline;
    static fakes::DeafOwner owner;
    Instance instance{loop, timeline, {}, {"fuzz", true}, owner};
    api::RequestParser parser{2048};
    std::size_t requests = 0;
    for (;;) {
        switch (parser.step()) {
        case api::RequestParser::Step::more:
            if (bytes.empty())
                return requests;
            parser.feed(bytes.substr(0, piece));
            bytes.remove_prefix(std::min(piece, bytes.size()));
            break;
        case api::RequestParser::Step::proceed:
            break;
        case api::RequestParser::Step::refused:
            require(parser.refusal().status == 400 && parser.refusal().body.starts_with("{ \"error\": \""));
            return requests;
        case api::RequestParser::Step::request:
            ++requests;
            handle(instance, parser.take());
            break;
        }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes{reinterpret_cast<const char*>(data), size}; // NOLINT: bytes are what a socket gives
    run(bytes, 8192);
    run(bytes, 7);
    return 0;
}
