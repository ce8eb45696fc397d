// SPDX-License-Identifier: Apache-2.0
// `inox run` in a jail: the process that the caller sees waits outside, and passes signals and the exit code on.
#pragma once

#include "vmm/jail/needs.hpp"
#include "vmm/jail/options.hpp"

namespace inox::jail {

/// The exit code of `inox run` with the words of the options, or of a signal (128 and its number). One thread; every
/// descriptor above 2 that the jail is not to have must be closed.
Result<int> run_guest(const Options& options, Needs needs);

} // namespace inox::jail
