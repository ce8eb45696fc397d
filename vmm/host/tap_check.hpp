// SPDX-License-Identifier: Apache-2.0
// Whether a tap can be opened, checked when it is configured and not only when the guest starts.
#pragma once

#include <string>

#include "vmm/base/error.hpp"

namespace inox {

/// Opens an existing tap and closes it; makes none. The error says what is wrong.
Result<void> check_tap(const std::string& name, unsigned queue_pairs = 1);

} // namespace inox
