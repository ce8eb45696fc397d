// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/child_process.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <spawn.h>
#include <string_view>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char** environ; // NOLINT: POSIX gives it no header

namespace inox {
namespace {

using namespace std::chrono_literals;

constexpr int served_fd = 3;

/// posix_spawn's lists, destroyed at the end.
struct SpawnPlan {
    posix_spawn_file_actions_t files{};
    posix_spawnattr_t attributes{};

    SpawnPlan() {
        ::posix_spawn_file_actions_init(&files);
        ::posix_spawnattr_init(&attributes);
    }
    ~SpawnPlan() {
        ::posix_spawn_file_actions_destroy(&files);
        ::posix_spawnattr_destroy(&attributes);
    }
    SpawnPlan(const SpawnPlan&) = delete;
    SpawnPlan& operator=(const SpawnPlan&) = delete;

    void set(int served, int errors) {
        ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        ::posix_spawn_file_actions_adddup2(&files, errors, STDERR_FILENO);
        ::posix_spawn_file_actions_adddup2(&files, served, served_fd); // clears close-on-exec also where they are equal
        ::posix_spawn_file_actions_addclosefrom_np(&files, served_fd + 1);
        sigset_t none;
        sigset_t all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        ::posix_spawnattr_setsigmask(&attributes, &none);
        ::posix_spawnattr_setsigdefault(&attributes, &all);
        ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    }
};

std::string ending(int status) {
    if (WIFEXITED(status))
        return format("ended with status %d", WEXITSTATUS(status));
    return format("was ended by signal %d", WTERMSIG(status));
}

} // namespace

std::string find_program(const std::string& name) {
    const auto usable = [](const std::string& path) { return ::access(path.c_str(), X_OK) == 0; };
    if (name.contains('/'))
        return usable(name) ? name : std::string{};
    const char* path = std::getenv("PATH"); // NOLINT: nobody changes the environment
    std::string_view folders{path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin"};
    while (!folders.empty()) {
        const auto folder = folders.substr(0, folders.find(':'));
        folders.remove_prefix(std::min(folder.size() + 1, folders.size()));
        if (auto whole = std::string{folder} + '/' + name; folder.starts_with('/') && usable(whole))
            return whole;
    }
    return {};
}

Result<ChildProcess> ChildProcess::start(const std::vector<std::string>& words, const UniqueFd& served) {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0)
        return fail_errno(Errc::host_error, "cannot make a pipe");
    ChildProcess child;
    child.errors_ = UniqueFd{pipe[0]};
    const UniqueFd far{pipe[1]};
    // adddup2 for standard error comes first, so no descriptor it needs may be the served one's new number.
    const UniqueFd errors{::fcntl(far.get(), F_DUPFD_CLOEXEC, served_fd + 1)};
    const UniqueFd own{::fcntl(served.get(), F_DUPFD_CLOEXEC, served_fd + 1)};
    if (!errors || !own)
        return fail_errno(Errc::host_error, "cannot duplicate a descriptor");
    SpawnPlan plan;
    plan.set(own.get(), errors.get());
    std::vector<char*> arguments;
    for (const auto& word : words)
        arguments.push_back(const_cast<char*>(word.c_str())); // NOLINT: as exec(3) asks
    arguments.push_back(nullptr);
    if (const int error =
            ::posix_spawn(&child.pid_, words.front().c_str(), &plan.files, &plan.attributes, arguments.data(), environ);
        error != 0) {
        child.pid_ = -1;
        errno = error;
        return fail_errno(Errc::host_error, "cannot start " + words.front());
    }
    return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_{std::exchange(other.pid_, -1)}, errors_{std::move(other.errors_)}, how_{std::move(other.how_)} {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
    if (this != &other) {
        end();
        pid_ = std::exchange(other.pid_, -1);
        errors_ = std::move(other.errors_);
        how_ = std::move(other.how_);
    }
    return *this;
}

std::optional<std::string> ChildProcess::ended(std::chrono::milliseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (pid_ > 0) {
        int status = 0;
        const pid_t got = ::waitpid(pid_, &status, WNOHANG);
        if (got == pid_ || (got < 0 && errno == ECHILD)) { // ECHILD: whoever started inox ignores SIGCHLD
            how_ = got == pid_ ? ending(status) : "ended";
            pid_ = -1;
        } else if (std::chrono::steady_clock::now() >= until) {
            return std::nullopt;
        } else {
            std::this_thread::sleep_for(500us);
        }
    }
    return how_;
}

std::string ChildProcess::take_errors() {
    std::string text(64 * 1024, '\0');
    const auto got = errors_ ? ::read(errors_.get(), text.data(), text.size()) : 0;
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
}

void ChildProcess::end() noexcept {
    if (pid_ <= 0 || ended(50ms))
        return;
    ::kill(pid_, SIGKILL);
    (void)ended(50ms);
    pid_ = -1;
}

} // namespace inox
