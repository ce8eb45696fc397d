// SPDX-License-Identifier: Apache-2.0
// A process of its own in which one thread is confined as in inox.
#pragma once

#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "vmm/confine/confine.hpp"

namespace inox::confine {

/// Code of a child in which a thread did what it wanted.
inline constexpr int went_well = 7;

/// Runs `act` on a thread of this kind in a child, and returns how that ended, as waitpid(2) tells. Its standard error
/// is `errors`, or goes nowhere.
template <class F> int in_child(ThreadKind kind, Features features, F act, const Plan& plan = {}, int errors = -1) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(120);
        for (int signal = 1; signal < SIGRTMIN; ++signal) // Catch2 has handlers
            ::signal(signal, SIG_DFL);
        ::dup2(errors >= 0 ? errors : ::open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO); // NOLINT(*-vararg)
        Plan own = plan;
        own.features = features;
        own.exit_code = plan.exit_code != 0 ? plan.exit_code : refusal_code;
        if (!confine(own))
            ::_exit(1);
        std::thread{[&] {
            enter_thread(kind, "under-test");
            act();
            ::_exit(went_well);
        }}.join();
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return status;
}

} // namespace inox::confine
