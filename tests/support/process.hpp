// SPDX-License-Identifier: Apache-2.0
// Runs a program as a user would and keeps everything it said.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string>
#include <vector>

extern char** environ;

namespace inox::tests {

struct Outcome {
    int code{-1}; ///< exit status, or 1000 + signal
    std::string out{};
    std::string err{};
    std::chrono::milliseconds took{};
};

struct ProcessOptions {
    std::string input{};
    int signal{0}; ///< sent once `signal_when` shows up on stdout
    std::string signal_when{};
    std::chrono::milliseconds limit{60'000};   ///< then SIGKILL
    bool read_output{true};                    ///< false: nobody reads stdout until the signal was sent
    std::chrono::milliseconds signal_after{0}; ///< with read_output false
};

namespace detail {
struct Pipe {
    std::array<int, 2> ends{};
    Pipe() { (void)!::pipe2(ends.data(), O_CLOEXEC); }
    ~Pipe();
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    void close_end(std::size_t which);
};
} // namespace detail

Outcome run_process(const std::vector<std::string>& arguments, const ProcessOptions& options = {});

} // namespace inox::tests
