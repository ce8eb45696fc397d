// SPDX-License-Identifier: Apache-2.0
// What `inox check` finds out on this host without starting a guest.
#pragma once

#include <string>
#include <vector>

#include "vmm/config/config_file.hpp"
#include "vmm/host/vfio_preflight.hpp"

namespace inox {

struct CheckFindings {
    std::vector<std::string> notes{}; ///< what a start accepts, but the operator may not have meant
    VfioNeeds vfio{};                 ///< what its host devices take
};

/// The text was no configuration: there is nothing to check.
bool nothing_read(const ParsedConfig& parsed);

/// Adds every reason why the parts of this configuration that could be read would not start here, each with its JSON
/// pointer, in the order in which a start meets them. `of_api`: those of the control API. It leaves nothing behind.
CheckFindings preflight(ParsedConfig& parsed, std::vector<Error> of_api = {});

/// {"file","ok","problems":[{"code","exit_code","where","what","hint"}],"ignored":[],"notes":[],"vfio":{}}, one line.
std::string check_json(const std::string& path, const ParsedConfig& parsed, const CheckFindings& findings);

} // namespace inox
