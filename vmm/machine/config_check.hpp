// SPDX-License-Identifier: Apache-2.0
// What `inox check` finds out on this host without starting a guest.
#pragma once

#include <string>
#include <vector>

#include "vmm/machine/config_file.hpp"

namespace vmm {

/// Every reason why this configuration, already parsed without problems, would not start here. Nothing is left behind.
std::vector<Error> preflight(const ConfigFile& file);

/// {"file","ok","problems":[{"code","exit_code","where","what","hint"}],"ignored":[]}, one line.
std::string check_json(const std::string& path, const ParsedConfig& parsed);

} // namespace vmm
