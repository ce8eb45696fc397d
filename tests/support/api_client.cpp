// SPDX-License-Identifier: Apache-2.0
#include "tests/support/api_client.hpp"

namespace inox::tests {

bool RecordingStream::write(std::string piece) {
    text += piece;
    return open;
}

void RecordingExchange::answer(api::Response got) {
    CHECK(!answered);
    response = std::move(got);
    answered = true;
}

std::shared_ptr<api::Stream> RecordingExchange::stream(std::string content_type) {
    CHECK(!answered);
    if (full)
        return nullptr;
    answered = true;
    response = {200, {}, std::move(content_type), false};
    return pieces = std::make_shared<RecordingStream>();
}

api::Response ApiClient::call(api::Method method, const std::string& target, const std::string& body) {
    exchange = std::make_shared<RecordingExchange>();
    exchange->full = streams_full;
    const auto question = std::min(target.find('?'), target.size());
    api::Request request{method, target.substr(0, question), target.substr(std::min(question + 1, target.size())),
                         body};
    auto prepared = api::prepare(api::find_route(request), request);
    if (auto* response = std::get_if<api::Response>(&prepared)) {
        exchange->response = *response;
    } else {
        api::Services services{instance_, server_};
        std::get<api::Action>(prepared)(services, exchange);
        while (instance_.starting()) { // the start needs the loop to run
            const auto end = loop_.after(std::chrono::milliseconds{1}, [this] { loop_.stop(); });
            loop_.run();
            loop_.restart();
        }
        REQUIRE(exchange->answered);
    }
    hold_to_contract(request);
    return exchange->response;
}

api::Response ApiClient::put(const std::string& target, const std::string& body) {
    return call(api::Method::put, target, body);
}

api::Response ApiClient::patch(const std::string& target, const std::string& body) {
    return call(api::Method::patch, target, body);
}

std::string ApiClient::json_error(const std::string& text) {
    return "An error occurred when deserializing the json body of a request: " + text + ".";
}

std::string ApiClient::fault(const api::Response& response) {
    const auto json = nlohmann::json::parse(response.body, nullptr, false);
    CHECK(response.status >= 400);
    return json.is_object() ? json.value("fault_message", "") : "";
}

void ApiClient::hold_to_contract(const api::Request& request) const {
    const auto& response = exchange->response;
    const std::string method{api::method_name(request.method)};
    const auto slash = request.path.rfind('/');
    const bool bare = slash != 0 && slash + 1 == request.path.size(); // "/mmds/" means "/mmds"
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

} // namespace inox::tests
