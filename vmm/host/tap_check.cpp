// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/tap_check.hpp"

#include "devices/virtio/net/tap.hpp"

namespace inox {

Result<void> check_tap(const std::string& name, unsigned queue_pairs) {
    const auto tap = TRY(devices::virtio::Tap::create(name));
    return tap->check(queue_pairs);
}

} // namespace inox
