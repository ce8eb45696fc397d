// SPDX-License-Identifier: Apache-2.0
// The answers to GDB's "monitor COMMAND" that are about the machine.
#pragma once

#include <string>
#include <string_view>

#include "vmm/machine/machine.hpp"

namespace inox::gdb {

/// Whole lines; for an unknown command the list of all.
std::string describe(const Machine& machine, std::string_view command);

} // namespace inox::gdb
