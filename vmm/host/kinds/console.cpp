// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_check.hpp"

namespace inox {

/// Its file is one of the outputs.
template <> Result<void> HostCheck<ConsoleConfig>::check(const ConsoleConfig& /*console*/, HostChecks& /*checks*/) {
    return {};
}

} // namespace inox
