// SPDX-License-Identifier: Apache-2.0
// Whether this host has what a device of each kind needs.
#pragma once

#include <memory>
#include <vector>

#include "vmm/config/config.hpp"

namespace inox {

/// What the checks of the kinds share.
struct HostChecks {
    /// The configuration has no error in this device, as far as reading it told.
    bool whole{true};
    /// What is locked and keeps later devices out: of two that want the same image, the same one is refused as at a
    /// start.
    std::vector<std::shared_ptr<void>> held{};
};
/// Whether the host has what a device needs. Paths that could not be read are empty. Each kind defines it in kinds/;
/// without it the program does not link.
template <class Options> struct HostCheck { static Result<void> check(const Options& options, HostChecks& checks); };

} // namespace inox
