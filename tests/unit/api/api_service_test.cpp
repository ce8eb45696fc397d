// SPDX-License-Identifier: Apache-2.0
#include "api/service.hpp"

#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/instance_events.hpp"
#include "tests/support/api_socket.hpp"
#include "tests/support/log_capture.hpp"
#include "vmm/instance/instance.hpp"

namespace inox::api_service_test {

using namespace inox;

TEST_CASE("who is refused again and again does not fill the log, and is counted") {
    const tests::LogCapture log;
    EventLoop loop;
    Timeline timeline;
    fakes::DeafOwner owner;
    Instance instance{loop, timeline, {}, {"test-vm", true}, owner};
    const auto path = tests::socket_path();
    auto service = api::serve({.path = path}, loop, instance).value();
    std::jthread runner{[&] { loop.run(); }};
    constexpr unsigned most = 600;
    const auto begun = std::chrono::steady_clock::now();
    {
        tests::ApiSocket client{path};
        for (unsigned i = 0; i < most; ++i) {
            REQUIRE(client.send("GET /nothing HTTP/1.1\r\n\r\n"));
            REQUIRE(client.receive_answer().starts_with("HTTP/1.1 400"));
        }
    }
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(std::chrono::steady_clock::now() - begun).count();
    loop.stop();
    runner.join();
    unsigned lines = 0;
    const auto text = log.text();
    for (auto at = text.find("Received Error"); at != text.npos; at = text.find("Received Error", at + 1))
        ++lines;
    CHECK(lines > 0);
    CHECK(lines <= 10 * static_cast<unsigned>(seconds + 1));
    std::uint64_t untold = 0;
    for (const auto& sample : instance.samples())
        if (sample.name == "refusals_not_logged")
            untold = sample.value;
    CHECK(lines + untold == most);
    service.reset();
}

} // namespace inox::api_service_test
