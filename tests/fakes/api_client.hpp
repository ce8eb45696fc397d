// SPDX-License-Identifier: Apache-2.0
// Calls the API's routes without a socket, and holds every answer to the contract.
#pragma once

#include <memory>
#include <string>

#include "api/firecracker/log_and_metrics.hpp"
#include "api/routes.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/contract.hpp"
#include "tests/fakes/instance_events.hpp"
#include "vmm/instance/instance.hpp"

namespace inox::fakes {

class RecordingStream final : public api::Stream {
public:
    bool write(std::string piece) override {
        text += piece;
        return open;
    }
    std::string text{};
    bool open{true};
};

class RecordingExchange final : public api::Exchange {
public:
    void answer(api::Response got) override {
        CHECK(!answered);
        response = std::move(got);
        answered = true;
    }
    std::shared_ptr<api::Stream> stream(std::string content_type) override {
        CHECK(!answered);
        if (full)
            return nullptr;
        answered = true;
        response = {200, {}, std::move(content_type), false};
        return pieces = std::make_shared<RecordingStream>();
    }
    api::Response response{};
    std::shared_ptr<RecordingStream> pieces{};
    bool answered{false};
    bool full{false}; ///< there are too many streams
};

/// An instance that never starts (that needs KVM: tests/cli/api_test.sh) and its API.
class ApiClient {
public:
    explicit ApiClient(Instance::Identity identity = {"test-vm", true, api::firecracker::metrics_line})
        : instance_{loop_, timeline_, {}, std::move(identity), owner_} {}

    api::Response call(api::Method method, const std::string& target, const std::string& body = {}) {
        exchange = std::make_shared<RecordingExchange>();
        exchange->full = streams_full;
        const auto question = std::min(target.find('?'), target.size());
        api::Request request{method, target.substr(0, question), target.substr(std::min(question + 1, target.size())),
                             body};
        auto prepared = api::prepare(request);
        if (auto* response = std::get_if<api::Response>(&prepared)) {
            exchange->response = *response;
        } else {
            api::Services services{instance_, server_};
            std::get<api::Action>(prepared)(services, exchange);
            while (instance_.starting()) { // which needs the loop
                const auto end = loop_.after(std::chrono::milliseconds{1}, [this] { loop_.stop(); });
                loop_.run();
                loop_.restart();
            }
            REQUIRE(exchange->answered);
        }
        hold_to_contract(request);
        return exchange->response;
    }
    api::Response get(const std::string& target) { return call(api::Method::get, target); }
    api::Response put(const std::string& target, const std::string& body) {
        return call(api::Method::put, target, body);
    }
    api::Response patch(const std::string& target, const std::string& body) {
        return call(api::Method::patch, target, body);
    }
    api::Response del(const std::string& target) { return call(api::Method::del, target); }

    /// What Firecracker says of a body that serde refuses with these words.
    static std::string json_error(const std::string& text) {
        return "An error occurred when deserializing the json body of a request: " + text + ".";
    }

    /// fault_message of a refusal.
    static std::string fault(const api::Response& response) {
        const auto json = nlohmann::json::parse(response.body, nullptr, false);
        CHECK(response.status >= 400);
        return json.is_object() ? json.value("fault_message", "") : "";
    }

    [[nodiscard]] Instance& instance() { return instance_; }
    [[nodiscard]] const Contract& contract() const { return contract_; }
    std::shared_ptr<RecordingExchange> exchange{};
    bool streams_full{false};

private:
    void hold_to_contract(const api::Request& request) const {
        const auto& response = exchange->response;
        const std::string method{api::method_name(request.method)};
        const auto slash = request.path.rfind('/');
        const bool bare = slash != 0 && slash + 1 == request.path.size(); // "/mmds/" is "/mmds"
        if (request.path.starts_with("//"))
            return; // another spelling of the rest
        const std::string path = bare ? request.path.substr(0, slash) : request.path;
        for (const auto& route : api::routes())
            if (route.method == request.method &&
                (route.path == path || (slash != 0 && !bare && route.path == path.substr(0, slash) + "/{id}"))) {
                INFO(method << " " << request.path << " -> " << response.status << " " << response.body);
                CHECK(contract_.complaint(method, std::string{route.path}, response.status, response.content_type,
                                          response.body) == "");
                return;
            }
        CHECK(response.status >= 400); // no such operation
    }

    EventLoop loop_;
    Timeline timeline_;
    DeafOwner owner_;
    Instance instance_;
    api::ServerCounters server_;
    Contract contract_;
};

} // namespace inox::fakes
