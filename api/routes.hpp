// SPDX-License-Identifier: Apache-2.0
// What the API can do: a table of operations. A request is checked on the server's thread (prepare) and carried out on
// the loop's (Action).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "api/http.hpp"
#include "api/server.hpp"
#include "vmm/instance/instance.hpp"

namespace inox::api {

/// What actions act on, on the loop's thread.
struct Services {
    Instance& instance;
    const ServerCounters& server;
};

using Action = std::move_only_function<void(Services& services, const std::shared_ptr<Exchange>& exchange)>;
using Prepared = std::variant<Response, Action>;

/// One request on its way through its route.
struct Call {
    Request request{};
    std::string id{}; ///< of the path, checked
};

enum class Phase : std::uint8_t { any, before_start, after_start };

struct Route {
    Method method;
    std::string_view path; ///< "/drives/{id}"
    Phase phase;
    Prepared (*prepare)(Call& call);
    bool secret{false}; ///< the body is for nobody's eyes: it is not logged
};
/// Every operation.
std::span<const Route> routes();

/// What a refusal says, as one line; the whole body when it has another shape.
std::string fault_message(const Response& refusal);

/// The operation that a request names, by any of its spellings.
struct FoundRoute {
    const Route* route{}; ///< null: there is none
    std::string id{};     ///< of the path, as it came
    std::string path{};   ///< with one slash in front
};
FoundRoute find_route(const Request& request);

/// `found`: what find_route() made of this request. Never throws, whatever the request holds.
Prepared prepare(const FoundRoute& found, Request request) noexcept;

} // namespace inox::api
