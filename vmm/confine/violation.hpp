// SPDX-License-Identifier: Apache-2.0
// What happens when a thread makes a system call that is not in its list.
#pragma once

#include "vmm/confine/confine.hpp"

namespace inox::confine {

/// The first such call ends the process, with a line on standard error and in the log. Other signals of this kind end
/// it as they would without inox.
void end_on_violation(const Plan& plan) noexcept;

} // namespace inox::confine
