// SPDX-License-Identifier: Apache-2.0
// Who may open /dev/kvm.
#pragma once

#include <string>

namespace inox {

/// What a user who may not open it can do. `root` stands before /dev and /etc.
[[nodiscard]] std::string kvm_denied_hint(const std::string& root = {});

} // namespace inox
