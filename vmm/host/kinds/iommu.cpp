// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_check.hpp"

namespace inox {

template <> Result<void> HostCheck<IommuConfig>::check(const IommuConfig& /*iommu*/, HostChecks& /*checks*/) {
    return {};
}

} // namespace inox
