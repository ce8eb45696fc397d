// SPDX-License-Identifier: Apache-2.0
// A shell on a terminal of its own, with one job that it has in front or in the background.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>

namespace inox::tests {

class JobShell {
public:
    /// The job begins in the background; it runs `job`, or a program that `job` becomes.
    explicit JobShell(const std::function<void()>& job);
    ~JobShell();
    JobShell(const JobShell&) = delete;
    JobShell& operator=(const JobShell&) = delete;

    [[nodiscard]] pid_t job() const { return job_; }
    /// As bash does it: a job that runs is not told.
    void to_front() { order('f'); }
    void to_background() { order('b'); }
    void type(const std::string& keys) { (void)!::write(master_, keys.data(), keys.size()); }
    /// What the terminal shows since the last call.
    std::string shown();
    /// Whether lines are edited and echoed, as a shell wants it.
    [[nodiscard]] bool cooked() const;
    /// As a shell does when it is in front again.
    void cook();
    [[nodiscard]] bool stopped() const { return state() == 'T'; }
    [[nodiscard]] bool ended() const { return state() == 'Z' || state() == '\0'; }

private:
    [[noreturn]] void serve(pid_t child);
    void order(char what) { (void)!::write(orders_[1], &what, 1); }
    [[nodiscard]] char state() const;

    std::array<int, 2> orders_{};
    int master_{-1};
    pid_t shell_{};
    pid_t job_{};
};

} // namespace inox::tests
