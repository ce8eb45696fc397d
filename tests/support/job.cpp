// SPDX-License-Identifier: Apache-2.0
#include "tests/support/job.hpp"

namespace inox::tests {

JobShell::JobShell(const std::function<void()>& job) {
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

JobShell::~JobShell() {
    ::kill(job_, SIGKILL);
    ::kill(shell_, SIGKILL);
    ::waitpid(shell_, nullptr, 0);
    for (const int fd : {master_, orders_[0], orders_[1]})
        ::close(fd);
}

std::string JobShell::shown() {
    std::array<char, 65536> text{};
    const auto got = ::read(master_, text.data(), text.size());
    return {text.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
}

bool JobShell::cooked() const {
    termios settings{};
    return ::tcgetattr(master_, &settings) == 0 && (settings.c_lflag & (ICANON | ECHO)) == (ICANON | ECHO);
}

void JobShell::cook() {
    termios settings{};
    ::tcgetattr(master_, &settings);
    settings.c_iflag |= ICRNL | IXON;
    settings.c_oflag |= OPOST | ONLCR;
    settings.c_lflag |= ICANON | ECHO | ISIG | IEXTEN;
    ::tcsetattr(master_, TCSANOW, &settings);
}

void JobShell::serve(pid_t child) {
    for (char order{}; ::read(orders_[0], &order, 1) == 1;)
        ::tcsetpgrp(STDIN_FILENO, order == 'f' ? child : ::getpgrp());
    ::_exit(0);
}

char JobShell::state() const {
    std::ifstream file{"/proc/" + std::to_string(job_) + "/stat"};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    const auto at = text.rfind(") ");
    return at == text.npos ? '\0' : text[at + 2];
}

} // namespace inox::tests
