// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_check.hpp"
#include "vmm/host/tap_check.hpp"

namespace inox {

using devices::virtio::NetOptions;

template <> Result<void> HostCheck<NetOptions>::check(const NetOptions& net, HostChecks& /*checks*/) {
    return check_way(net);
}

} // namespace inox
