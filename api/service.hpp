// SPDX-License-Identifier: Apache-2.0
// The control API of one instance: server, routes and the way between their threads.
#pragma once

#include "api/server.hpp"
#include "vmm/instance/instance.hpp"

namespace api {

/// Listens until the registration dies, which must happen while the loop does not run. From the loop's thread.
vmm::Result<vmm::Registration> serve(const ServerOptions& options, vmm::EventLoop& loop, vmm::Instance& instance);

} // namespace api
