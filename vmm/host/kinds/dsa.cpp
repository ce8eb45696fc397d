// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/forwarder.hpp"
#include "vmm/host/host_check.hpp"

namespace inox {

template <> Result<void> HostCheck<DsaConfig>::check(const DsaConfig& dsa, HostChecks& /*checks*/) {
    if (!dsa.forward.empty())
        TRY(devices::dsa::HostQueue::open(dsa.forward));
    return {};
}

} // namespace inox
