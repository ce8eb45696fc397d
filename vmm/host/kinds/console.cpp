// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_check.hpp"

namespace inox {

/// The console's file is checked with the other outputs.
template <> Result<void> HostCheck<ConsoleConfig>::check(const ConsoleConfig& /*console*/, HostChecks& /*checks*/) {
    return {};
}

} // namespace inox
