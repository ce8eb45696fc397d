// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_check.hpp"

namespace inox {

using devices::virtio::BalloonOptions;

template <> Result<void> HostCheck<BalloonOptions>::check(const BalloonOptions& /*balloon*/, HostChecks& /*checks*/) {
    return {};
}

} // namespace inox
