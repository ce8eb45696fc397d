// SPDX-License-Identifier: Apache-2.0
// What `inox check` finds out on this host without starting a guest.
#pragma once

#include <string>
#include <vector>

#include "vmm/machine/config_file.hpp"
#include "vmm/machine/vfio_preflight.hpp"

namespace vmm {

/// Adds every reason why the parts of this configuration that could be read would not start here, each with its JSON
/// pointer. Nothing is left behind. Returns what its host devices take.
VfioNeeds preflight(ParsedConfig& parsed);

/// {"file","ok","problems":[{"code","exit_code","where","what","hint"}],"ignored":[],"vfio":{}}, one line.
std::string check_json(const std::string& path, const ParsedConfig& parsed, const VfioNeeds& vfio);

} // namespace vmm
