// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stop_token>
#include <string>

#include "vmm/base/error.hpp"

namespace inox::guest_root {

/// What `uname -r` says in a guest of this kernel, from its file: the name of its modules' folder. Empty where the file
/// does not tell. kernel_missing, kernel_invalid.
Result<std::string> kernel_release(const std::string& kernel, const std::stop_token& stop);

} // namespace inox::guest_root
