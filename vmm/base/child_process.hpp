// SPDX-License-Identifier: Apache-2.0
// A program of the host that serves this process, and ends with it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox {

/// The path of a program that may be executed: `name` itself when it has a '/', else the first one in PATH. Empty:
/// none.
std::string find_program(const std::string& name);

/// Starts it as ChildProcess does; -1 with errno. `errors`: its standard error, which should not block.
pid_t spawn_serving(const std::vector<std::string>& words, const UniqueFd& served, const UniqueFd& errors);

/// Started with a descriptor of the caller's as its 3, nothing on its standard input and output, a process group of its
/// own (no key of the terminal reaches it) and no signal blocked. Whoever starts it sees to it that it ends by itself
/// when that descriptor's other end closes: then it also ends when this process is killed. Where there is an
/// outside::Door, the Door starts it, if it is passt. One thread at a time.
class ChildProcess {
public:
    ChildProcess() = default;
    /// `words`: the program's path and its arguments. host_error.
    static Result<ChildProcess> start(const std::vector<std::string>& words, const UniqueFd& served);
    ChildProcess(ChildProcess&& other) noexcept;
    ChildProcess& operator=(ChildProcess&& other) noexcept;
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    ~ChildProcess() { end(); }

    [[nodiscard]] explicit operator bool() const { return pid_ > 0 || helper_ > 0; }
    /// -1 when it is the Door's child.
    [[nodiscard]] pid_t pid() const { return pid_; }
    /// How it ended, for people ("ended with status 1"); nullopt when it still runs after `patience`.
    std::optional<std::string> ended(std::chrono::milliseconds patience = {});
    /// What it wrote to standard error since the last call. At most what a pipe holds: the rest is lost, and the
    /// program never waits for a reader.
    std::string take_errors();
    /// Gives it a moment to end by itself, then kills it. Takes at most about 100 ms.
    void end() noexcept;

private:
    [[nodiscard]] bool look();

    pid_t pid_{-1};
    int helper_{}; ///< the Door's number of it; 0: it is none of the Door's
    UniqueFd errors_{};
    std::string how_{}; ///< it ended
};

} // namespace inox
