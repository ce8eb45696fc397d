// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/protocol.hpp"

#include "vmm/base/log.hpp"

namespace inox::api::firecracker {
namespace {

/// Like a string that Rust prints with {:?}: one line of ASCII, whatever it contains.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '"' || c == '\\')
            out += '\\';
        if (c == '\n' || c == '\r' || c == '\t')
            out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
        else if (c < 0x20 || c == 0x7f)
            out += format("\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
        else
            out += c;
    }
    return out;
}

Error refused(std::string what, std::string hint) {
    return make_error(Errc::bad_option, std::move(what), std::move(hint));
}

} // namespace

Error no_operation(Method method, std::string_view path) {
    return refused("Invalid request method and/or path: " + std::string{method_name(method)} + " " + std::string{path} +
                       ".",
                   "see /inox/openapi.json");
}

Error wrong_body(Method method) {
    switch (method) {
    case Method::get:
        return refused("GET request cannot have a body.", "send it without one");
    case Method::put:
        return refused("Empty PUT request.", "send a JSON object");
    case Method::patch:
        return refused("Empty PATCH request.", "send a JSON object");
    case Method::del:
        break;
    }
    return refused("Empty Delete request.", "a DELETE has no body: send it without one");
}

Error empty_id() { return refused("The ID cannot be empty.", "put it behind the path"); }

Error wrong_id(std::string hint) {
    return refused("API Resource IDs can only contain alphanumeric characters and underscores.", std::move(hint));
}

Error wrong_phase(bool started) {
    return make_error(Errc::wrong_state,
                      std::string{"The requested operation is not supported "} + (started ? "after" : "before") +
                          " starting the microVM.",
                      started ? "do it before InstanceStart" : "do it after InstanceStart");
}

std::string protocol_error(std::string_view why) { return "{ \"error\": \"" + std::string{why} + "\" }"; }

std::string last_protocol_error(std::string_view why) {
    return protocol_error(std::string{why} + "\nAll previous unanswered requests will be dropped.");
}

std::string invalid_request(std::string_view why) { return "Invalid request: " + std::string{why} + "."; }
std::string invalid_method(std::string_view what) { return "Invalid HTTP Method: " + std::string{what} + "."; }
std::string invalid_version() { return "Invalid HTTP Version."; }
std::string invalid_uri(std::string_view what) { return "Invalid URI: " + std::string{what} + "."; }
std::string invalid_coding(std::string_view what) {
    return "Unsupported Transfer-Encoding: " + std::string{what} + ".";
}

std::string too_large(std::uint64_t size, std::uint64_t limit) {
    return "Request payload with size " + std::to_string(size) + " is larger than the limit of " +
           std::to_string(limit) + " allowed by server.";
}

void log_request(const Request& request, BodyIs body) {
    if (!log::enabled(log::Level::info))
        return;
    static constexpr const char* names[] = {"Get", "Put", "Patch", "Delete"};
    const char* name = names[static_cast<std::size_t>(request.method)];
    if (request.body.empty() || body == BodyIs::secret)
        log::write(log::Level::info, "The API server received a %s request on \"%s\".", name,
                   escaped(request.path).c_str());
    else
        log::write(log::Level::info, "The API server received a %s request on \"%s\" with body \"%s\".", name,
                   escaped(request.path).c_str(), escaped(request.body).c_str());
}

void log_answer(unsigned status, std::string_view fault) {
    if (status < 300)
        log::write(log::Level::info, "The request was executed successfully. Status code: %s.",
                   status_text(status).c_str());
    else
        log::write(log::Level::error, "Received Error. Status code: %s. Message: %.*s", status_text(status).c_str(),
                   static_cast<int>(fault.size()), fault.data());
}

void log_duration(std::chrono::microseconds took) {
    log::write(log::Level::info, "Total previous API call duration: %lld us.", static_cast<long long>(took.count()));
}

void log_listening(std::string_view socket) {
    log::write(log::Level::info, "Listening on API socket (\"%.*s\").", static_cast<int>(socket.size()), socket.data());
    log::write(log::Level::info, "API server started.");
}

} // namespace inox::api::firecracker
