// SPDX-License-Identifier: Apache-2.0
// Whether an interface's way to the network is there, checked when it is configured and not only when the guest starts.
#pragma once

#include <string>

#include "devices/virtio/net/options.hpp"
#include "vmm/base/error.hpp"

namespace inox {

/// Opens an existing tap and closes it; makes none. The error says what is wrong.
Result<void> check_tap(const std::string& name, unsigned queue_pairs = 1);
/// The same of whichever way `net` has: a tap, passt, a socket. Starts and connects nothing.
Result<void> check_way(const devices::virtio::NetOptions& net);

} // namespace inox
