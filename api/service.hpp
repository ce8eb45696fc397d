// SPDX-License-Identifier: Apache-2.0
// The control API of one instance: server, routes and the way between their threads.
#pragma once

#include "api/server.hpp"
#include "vmm/instance/instance.hpp"

namespace inox::api {

/// Listens until the registration dies, which must happen while the loop does not run. From the loop's thread.
Result<Registration> serve(const ServerOptions& options, EventLoop& loop, Instance& instance);

} // namespace inox::api
