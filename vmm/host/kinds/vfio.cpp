// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_check.hpp"

namespace inox {

/// vfio_preflight() looks at all of them together.
template <> Result<void> HostCheck<VfioConfig>::check(const VfioConfig& /*vfio*/, HostChecks& /*checks*/) { return {}; }

} // namespace inox
