// SPDX-License-Identifier: Apache-2.0
// Runs a program on a terminal of its own.
#pragma once

#include <poll.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <string>
#include <vector>

namespace inox::tests {

struct TerminalOutcome {
    int code{-1};
    std::string shown{}; ///< standard output and error, with \r\n as line ends
    bool raw{};          ///< the terminal was raw when `when` had been shown
    bool restored{};     ///< at the end it was not
};

/// Of the terminal behind its master's descriptor.
bool lines_are_edited(int master);

/// Types `keys` once `when` was shown, and sends `signal`. At most 60 s.
TerminalOutcome run_on_terminal(const std::vector<std::string>& arguments, const std::string& when,
                                const std::string& keys, int signal = 0);

} // namespace inox::tests
