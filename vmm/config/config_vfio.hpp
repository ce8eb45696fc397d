// SPDX-License-Identifier: Apache-2.0
// Assigned host devices in the configuration.
#pragma once

#include <string>
#include <vector>

#include "vmm/config/config.hpp"

namespace inox {

/// Every rule that needs no host.
void check_vfio(const Config& config, std::vector<Error>& problems);

} // namespace inox
