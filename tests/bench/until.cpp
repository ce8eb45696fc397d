// SPDX-License-Identifier: Apache-2.0
// until: the time from a command's exec until its standard output shows a text, in turn with another command.
//
//   until [-n RUNS] [-t TEXT | -c] -- COMMAND... [--vs COMMAND...]
//
// Without -t the first byte counts. With -c it is the CPU time, user's and kernel's, that the command takes until it
// ends by itself. Prints one line: median of each in milliseconds, the median of the ratios taken
// pair by pair, and the runs. Each command is ended (SIGKILL) once it has shown the text. One warm-up pair is not
// counted. Exit status 1 when a command ends, or a minute passes, before the text.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Command = std::vector<char*>;

double milliseconds(const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
}

// CPU time of one run, in milliseconds, or a negative number when it fails.
double cost(Command command) {
    command.push_back(nullptr);
    const pid_t pid = ::vfork();
    if (pid == 0) {
        const int nowhere = ::open("/dev/null", O_RDWR);
        ::dup2(nowhere, STDIN_FILENO);
        ::dup2(nowhere, STDOUT_FILENO);
        ::execvp(command[0], command.data());
        ::_exit(127);
    }
    int status = -1;
    rusage used{};
    ::wait4(pid, &status, 0, &used);
    return status == 0 ? milliseconds(used.ru_utime) + milliseconds(used.ru_stime) : -1;
}

// Milliseconds, or a negative number when the text did not come.
double once(Command command, const std::string& text) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    command.push_back(nullptr);
    const auto start = Clock::now();
    const pid_t pid = ::vfork();
    if (pid == 0) {
        ::dup2(ends[1], STDOUT_FILENO);
        ::execvp(command[0], command.data());
        ::_exit(127);
    }
    ::close(ends[1]);
    std::string seen;
    double took = -1;
    for (;;) {
        pollfd poll{ends[0], POLLIN, 0};
        char buffer[4096];
        if (::poll(&poll, 1, 60'000) != 1)
            break;
        const auto got = ::read(ends[0], buffer, sizeof buffer);
        if (got <= 0)
            break;
        seen.append(buffer, static_cast<std::size_t>(got));
        if (seen.find(text) != std::string::npos) {
            took = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
            break;
        }
    }
    ::kill(pid, SIGKILL);
    ::close(ends[0]);
    ::waitpid(pid, nullptr, 0);
    return took;
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const auto half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

} // namespace

int main(int argc, char** argv) {
    int runs = 11;
    std::string text;
    bool cpu = false;
    int at = 1;
    for (; at < argc && std::strcmp(argv[at], "--") != 0; ++at) {
        if (std::strcmp(argv[at], "-n") == 0 && at + 1 < argc)
            runs = std::max(std::atoi(argv[++at]), 1);
        else if (std::strcmp(argv[at], "-t") == 0 && at + 1 < argc)
            text = argv[++at];
        else if (std::strcmp(argv[at], "-c") == 0)
            cpu = true;
    }
    std::vector<Command> commands(1);
    for (++at; at < argc; ++at) {
        if (std::strcmp(argv[at], "--vs") == 0)
            commands.emplace_back();
        else
            commands.back().push_back(argv[at]);
    }
    if (commands.size() > 2 || commands.front().empty() || commands.back().empty()) {
        std::fprintf(stderr, "usage: until [-n RUNS] [-t TEXT | -c] -- COMMAND... [--vs COMMAND...]\n");
        return 2;
    }
    std::vector<std::vector<double>> times(commands.size());
    std::vector<double> ratios;
    for (int run = -1; run < runs; ++run) {
        std::vector<double> pair;
        for (const auto& command : commands) {
            pair.push_back(cpu ? cost(command) : once(command, text));
            if (pair.back() < 0) {
                std::fprintf(stderr, cpu ? "until: %s failed\n" : "until: %s never showed '%s'\n", command[0],
                             text.c_str());
                return 1;
            }
        }
        if (run < 0)
            continue;
        for (std::size_t i = 0; i < pair.size(); ++i)
            times[i].push_back(pair[i]);
        if (pair.size() == 2)
            ratios.push_back(pair[0] / pair[1]);
    }
    std::printf("%.3f", median(times[0]));
    if (times.size() == 2)
        std::printf(" %.3f %.3f", median(times[1]), median(ratios));
    std::printf(" %d\n", runs);
}
