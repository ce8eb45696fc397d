// SPDX-License-Identifier: Apache-2.0
#include "tests/support/terminal.hpp"

namespace inox::tests {

bool lines_are_edited(int master) {
    termios settings{};
    return ::tcgetattr(master, &settings) == 0 && (settings.c_lflag & (ICANON | ECHO)) == (ICANON | ECHO);
}

TerminalOutcome run_on_terminal(const std::vector<std::string>& arguments, const std::string& when,
                                const std::string& keys, int signal) {
    std::vector<char*> argv;
    for (const auto& argument : arguments)
        argv.push_back(const_cast<char*>(argument.c_str())); // NOLINT: execv's signature
    argv.push_back(nullptr);
    int master = -1;
    const pid_t pid = ::forkpty(&master, nullptr, nullptr, nullptr);
    if (pid == 0) {
        const rlimit none{0, 0};
        ::setrlimit(RLIMIT_CORE, &none);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    TerminalOutcome outcome;
    bool typed = false;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{60};
    for (;;) {
        if (!typed && outcome.shown.find(when) != std::string::npos) {
            typed = true;
            outcome.raw = !lines_are_edited(master);
            (void)!::write(master, keys.data(), keys.size());
            if (signal != 0)
                ::kill(pid, signal);
        }
        pollfd poll{master, POLLIN, 0};
        std::array<char, 4096> buffer{};
        const bool ready = ::poll(&poll, 1, 1000) == 1;
        const auto got = ready ? ::read(master, buffer.data(), buffer.size()) : 0;
        if (ready && got <= 0) // EIO: no process has the terminal open
            break;
        outcome.shown.append(buffer.data(), static_cast<std::size_t>(got));
        if (std::chrono::steady_clock::now() > end)
            ::kill(pid, SIGKILL);
    }
    outcome.restored = lines_are_edited(master);
    int status = 0;
    ::waitpid(pid, &status, 0);
    ::close(master);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    return outcome;
}

} // namespace inox::tests
