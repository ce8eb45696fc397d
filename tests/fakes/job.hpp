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

namespace inox::fakes {

class JobShell {
public:
    /// The job begins in the background; it runs `job`, or a program that `job` becomes.
    explicit JobShell(const std::function<void()>& job) {
        std::array<int, 2> told{};
        (void)!::pipe2(told.data(), O_CLOEXEC);
        (void)!::pipe2(orders_.data(), O_CLOEXEC);
        shell_ = ::forkpty(&master_, nullptr, nullptr, nullptr);
        if (shell_ == 0) {
            ::signal(SIGTTOU, SIG_IGN); // NOLINT: a shell does so
            const pid_t child = ::fork();
            if (child == 0) {
                ::signal(SIGTTOU, SIG_DFL); // NOLINT
                ::setpgid(0, 0);
                job();
                ::_exit(0);
            }
            ::setpgid(child, child);
            (void)!::write(told[1], &child, sizeof child);
            serve(child);
        }
        (void)!::read(told[0], &job_, sizeof job_);
        ::close(told[0]);
        ::close(told[1]);
        ::fcntl(master_, F_SETFL, O_NONBLOCK);
    }
    ~JobShell() {
        ::kill(job_, SIGKILL);
        ::kill(shell_, SIGKILL);
        ::waitpid(shell_, nullptr, 0);
        for (const int fd : {master_, orders_[0], orders_[1]})
            ::close(fd);
    }
    JobShell(const JobShell&) = delete;
    JobShell& operator=(const JobShell&) = delete;

    [[nodiscard]] pid_t job() const { return job_; }
    /// As bash does it: a job that runs is not told.
    void to_front() { order('f'); }
    void to_background() { order('b'); }
    void type(const std::string& keys) { (void)!::write(master_, keys.data(), keys.size()); }
    /// What the terminal shows since the last call.
    std::string shown() {
        std::array<char, 65536> text{};
        const auto got = ::read(master_, text.data(), text.size());
        return {text.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
    }
    /// Whether lines are edited and echoed, as a shell wants it.
    [[nodiscard]] bool cooked() const {
        termios settings{};
        return ::tcgetattr(master_, &settings) == 0 && (settings.c_lflag & (ICANON | ECHO)) == (ICANON | ECHO);
    }
    /// As a shell does when it is in front again.
    void cook() {
        termios settings{};
        ::tcgetattr(master_, &settings);
        settings.c_iflag |= ICRNL | IXON;
        settings.c_oflag |= OPOST | ONLCR;
        settings.c_lflag |= ICANON | ECHO | ISIG | IEXTEN;
        ::tcsetattr(master_, TCSANOW, &settings);
    }
    [[nodiscard]] bool stopped() const { return state() == 'T'; }
    [[nodiscard]] bool ended() const { return state() == 'Z' || state() == '\0'; }

private:
    [[noreturn]] void serve(pid_t child) {
        for (char order{}; ::read(orders_[0], &order, 1) == 1;)
            ::tcsetpgrp(STDIN_FILENO, order == 'f' ? child : ::getpgrp());
        ::_exit(0);
    }
    void order(char what) { (void)!::write(orders_[1], &what, 1); }
    [[nodiscard]] char state() const {
        std::ifstream file{"/proc/" + std::to_string(job_) + "/stat"};
        const std::string text{std::istreambuf_iterator<char>{file}, {}};
        const auto at = text.rfind(") ");
        return at == text.npos ? '\0' : text[at + 2];
    }

    std::array<int, 2> orders_{};
    int master_{-1};
    pid_t shell_{};
    pid_t job_{};
};

} // namespace inox::fakes
