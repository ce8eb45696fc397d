// SPDX-License-Identifier: Apache-2.0
// Where GDB connects: one client at a time, on 127.0.0.1 or a unix socket.
#pragma once

#include "vmm/base/event_loop.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/instance/instance.hpp"

namespace inox::gdb {

/// Why serve() could not listen there; nothing is made.
Result<void> check(const GdbConfig& config);

/// Before the instance starts. Listens until the registration dies, which tells the client that the guest ended.
/// Errors: in_use, output_unwritable, bad_option, host_error.
Result<Registration> serve(const GdbConfig& config, EventLoop& loop, Instance& instance);

} // namespace inox::gdb
