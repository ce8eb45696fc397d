// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_check.hpp"

namespace inox {

using devices::virtio::EntropyOptions;

template <> Result<void> HostCheck<EntropyOptions>::check(const EntropyOptions& /*entropy*/, HostChecks& /*checks*/) {
    return {};
}

} // namespace inox
