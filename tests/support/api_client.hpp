// SPDX-License-Identifier: Apache-2.0
// Calls the API's routes without a socket, and holds every answer to the contract.
#pragma once

#include <memory>
#include <string>

#include "api/firecracker/log_and_metrics.hpp"
#include "api/routes.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/instance_events.hpp"
#include "tests/support/contract.hpp"
#include "vmm/instance/instance.hpp"

namespace inox::tests {

class RecordingStream final : public api::Stream {
public:
    bool write(std::string piece) override;
    std::string text{};
    bool open{true};
};

class RecordingExchange final : public api::Exchange {
public:
    void answer(api::Response got) override;
    std::shared_ptr<api::Stream> stream(std::string content_type) override;
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

    api::Response call(api::Method method, const std::string& target, const std::string& body = {});
    api::Response get(const std::string& target) { return call(api::Method::get, target); }
    api::Response put(const std::string& target, const std::string& body);
    api::Response patch(const std::string& target, const std::string& body);
    api::Response del(const std::string& target) { return call(api::Method::del, target); }

    /// What Firecracker says of a body that serde refuses with these words.
    static std::string json_error(const std::string& text);

    /// fault_message of a refusal.
    static std::string fault(const api::Response& response);

    [[nodiscard]] Instance& instance() { return instance_; }
    [[nodiscard]] const Contract& contract() const { return contract_; }
    std::shared_ptr<RecordingExchange> exchange{};
    bool streams_full{false};

private:
    void hold_to_contract(const api::Request& request) const;

    EventLoop loop_;
    Timeline timeline_;
    fakes::DeafOwner owner_;
    Instance instance_;
    api::ServerCounters server_;
    Contract contract_;
};

} // namespace inox::tests
