// SPDX-License-Identifier: Apache-2.0
// One guest from start to end with the terminal attached: what `inox run` does after parsing.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "vmm/base/timeline.hpp"
#include "vmm/machine/config.hpp"

namespace vmm {

struct RunOptions {
    std::optional<std::chrono::milliseconds> timeout{}; ///< wall time from the call; then Errc::timed_out
    std::string expect{};        ///< POSIX extended regex searched in each serial line; seen: the run ends with success
    std::string serial_log{};    ///< path that receives every serial byte
    std::string boot_timeline{}; ///< path ending in .json or .svg, written at the end
    bool quiet{false};           ///< no closing line on standard error
};

/// Runs the guest to its end. Returns the process's exit code (see docs/exit-codes.md): the guest's own, or that of an
/// Errc, after the error was printed.
int run(const Config& config, const RunOptions& options, Timeline& timeline);

/// The one shape of an error on standard error: what, code, where, hint.
void print_error(const Error& error);

} // namespace vmm
