// SPDX-License-Identifier: Apache-2.0
// A program of the host that serves this process, and ends with it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox {

/// The path of a program that may be executed: `name` itself when it has a '/', else the first one in PATH. Empty:
/// none.
std::string find_program(const std::string& name);

/// What to start. Its standard input and output are nothing; it has a session of its own (no key of the terminal
/// reaches it) and no signal blocked.
struct ServingProgram {
    std::string path{};
    std::vector<std::string> words{};
    std::vector<int> descriptors{}; ///< its 3, 4, ...
    int errors{-1};                 ///< its standard error; -1: that of this process
    bool environment{true};         ///< false: it has none
};
/// -1 with errno. Takes the same time for any size of this process.
pid_t spawn(const ServingProgram& program);

/// A started program. Whoever starts it sees to it that it ends by itself when the other end of a descriptor of its own
/// closes: then it also ends when this process is killed. One thread at a time.
class ChildProcess {
public:
    ChildProcess() = default;
    /// `process`: a pidfd. `helper`: the number that the outside::Door gave it; 0: it is a child of this process.
    explicit ChildProcess(UniqueFd process, int helper = 0) : process_{std::move(process)}, helper_{helper} {}
    /// A child of this process. host_error.
    static Result<ChildProcess> start(const ServingProgram& program);
    ChildProcess(ChildProcess&& other) noexcept
        : process_{std::move(other.process_)}, helper_{std::exchange(other.helper_, 0)}, how_{std::move(other.how_)} {}
    ChildProcess& operator=(ChildProcess&& other) noexcept;
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    ~ChildProcess() { end({}); }

    /// How it ended, for people ("ended with status 1"); nullopt when it still runs after `patience`.
    std::optional<std::string> ended(std::chrono::milliseconds patience = {});
    /// Kills it if it does not end by itself within `patience`. Takes at most 50 ms longer: one that waits for storage
    /// cannot be killed, and stays behind as a child until this process ends.
    void end(std::chrono::milliseconds patience) noexcept;

private:
    [[nodiscard]] std::string reap() noexcept;

    UniqueFd process_{}; ///< none: it has ended, or there was none
    int helper_{};
    std::string how_{"ended"};
};

} // namespace inox
