// SPDX-License-Identifier: Apache-2.0
// One guest from start to end with the terminal attached: what `inox run` does after parsing.
#pragma once

#include "vmm/base/event_loop.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/instance/confinement/confinement.hpp"
#include "vmm/instance/instance.hpp"

namespace inox {

/// To standard error; waits only a moment for a reader that does not read.
void tell(std::string_view text);
/// The one shape of an error on standard error: what, code, where, hint.
void print_error(const Error& error);

struct RunPlan {
    bool start_now{true}; ///< else somebody else calls Instance::start()
    Instance::Identity identity{};
    /// Starts what works beside the guest, such as the control API. Called before the guest starts; the registration
    /// dies after the guest ended, while the loop does not run.
    std::function<Result<Registration>(EventLoop& loop, Instance& instance)> companion{};
    std::function<void(Instance& instance)> before_start{}; ///< where start_now is set
    std::function<void()> on_started{};                     ///< after a start that start_now asked for
    std::function<void()> on_user_space_up{};               ///< the guest says so
    /// How the process is confined; forks, and is called before there are threads.
    std::function<Result<std::unique_ptr<Confinement>>(const ConfigFile& file)> confine{Confinement::create};
    bool closing_line{false}; ///< print how the guest ended and when, unless `quiet` is set
    /// Prints why the guest cannot start; returns the process's exit code.
    std::function<int(Error error)> start_failed{[](const Error& error) {
        print_error(error);
        return exit_code(error.code);
    }};
};

/// Runs the guest to its end. Returns the process's exit code (see docs/exit-codes.md): the guest's own, or that of an
/// Errc, after the error was printed.
int run(ConfigFile file, Timeline& timeline, const RunPlan& plan = {});

} // namespace inox
