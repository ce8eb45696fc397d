// SPDX-License-Identifier: Apache-2.0
// Why a thread could not be started: the system says EAGAIN for every limit.
#pragma once

#include <string>
#include <system_error>

#include "vmm/base/error.hpp"

namespace inox {

/// host_error "cannot start WHAT: ...", with the limit to raise as its hint: the address space where a thread's stack
/// does not fit it, else the number of processes. Any thread.
std::unexpected<Error> fail_thread(const char* what, const std::system_error& error);

} // namespace inox
