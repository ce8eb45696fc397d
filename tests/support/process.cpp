// SPDX-License-Identifier: Apache-2.0
#include "tests/support/process.hpp"

namespace inox::tests::detail {

Pipe::~Pipe() {
    close_end(0);
    close_end(1);
}

void Pipe::close_end(std::size_t which) {
    if (ends.at(which) >= 0)
        ::close(ends.at(which));
    ends.at(which) = -1;
}

} // namespace inox::tests::detail

namespace inox::tests {

Outcome run_process(const std::vector<std::string>& arguments, const ProcessOptions& options) {
    using Clock = std::chrono::steady_clock;
    detail::Pipe in, out, err;
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, in.ends[0], 0);
    ::posix_spawn_file_actions_adddup2(&actions, out.ends[1], 1);
    ::posix_spawn_file_actions_adddup2(&actions, err.ends[1], 2);
    std::vector<char*> argv;
    for (const auto& argument : arguments)
        argv.push_back(const_cast<char*>(argument.c_str())); // NOLINT: posix_spawn's signature
    argv.push_back(nullptr);
    const auto start = Clock::now();
    pid_t pid = 0;
    const int spawned = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    Outcome outcome;
    if (spawned != 0) {
        outcome.err = "cannot start " + arguments[0];
        return outcome;
    }
    in.close_end(0);
    out.close_end(1);
    err.close_end(1);
    (void)!::write(in.ends[1], options.input.data(), options.input.size());
    in.close_end(1);

    bool signalled = false;
    auto send = [&] {
        ::kill(pid, options.signal);
        signalled = true;
    };
    if (!options.read_output) {
        ::fcntl(out.ends[0], F_SETPIPE_SZ, 4096); // NOLINT(*-vararg): soon full, also with a slow guest
        ::usleep(static_cast<useconds_t>(options.signal_after.count() * 1000));
        send();
    }
    auto drain = [](int& fd, short revents, std::string& text) {
        std::array<char, 4096> buffer{};
        if (fd < 0 || revents == 0)
            return;
        const auto got = ::read(fd, buffer.data(), buffer.size());
        if (got > 0)
            text.append(buffer.data(), static_cast<std::size_t>(got));
        else
            fd = -1;
    };
    int out_fd = out.ends[0];
    int err_fd = err.ends[0];
    while (out_fd >= 0 || err_fd >= 0) {
        std::array<pollfd, 2> polls{{{out_fd, POLLIN, 0}, {err_fd, POLLIN, 0}}};
        ::poll(polls.data(), polls.size(), 100);
        drain(out_fd, polls[0].revents, outcome.out);
        drain(err_fd, polls[1].revents, outcome.err);
        if (!signalled && options.signal != 0 && outcome.out.find(options.signal_when) != std::string::npos)
            send();
        if (Clock::now() - start > options.limit) {
            ::kill(pid, SIGKILL);
            break;
        }
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    outcome.took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    return outcome;
}

} // namespace inox::tests
