// SPDX-License-Identifier: Apache-2.0
// Assigned host devices in the configuration.
#pragma once

#include <string>
#include <vector>

#include "vmm/machine/config.hpp"

namespace vmm {

/// `--vfio`'s text with its first word as the value of "host" when it has no key.
std::string vfio_option(const std::string& text);
/// Every rule that needs no host.
void check_vfio(const Config& config, std::vector<Error>& problems);

} // namespace vmm
