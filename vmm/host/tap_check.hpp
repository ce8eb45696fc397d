// SPDX-License-Identifier: Apache-2.0
// Whether a tap can be had: said when it is configured, not only when the guest starts.
#pragma once

#include <string>

#include "vmm/base/error.hpp"

namespace inox {

/// Opens one that is there and lets it go; makes none. The error tells what is wrong.
Result<void> check_tap(const std::string& name, unsigned queue_pairs = 1);

} // namespace inox
