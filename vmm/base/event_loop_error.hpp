// SPDX-License-Identifier: Apache-2.0
// What an event loop throws.
#pragma once

#include <exception>

namespace inox {

/// errno of what a loop, or the API's, throws when the system refuses it a descriptor of its own; 0 for every other
/// exception. Any thread.
int loop_errno(const std::exception& thrown);

} // namespace inox
