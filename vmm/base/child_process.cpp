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

#include "vmm/base/outside/outside.hpp"

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
    if (status == outside::Door::unknown)
        return "ended";
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

pid_t spawn_serving(const std::vector<std::string>& words, const UniqueFd& served, const UniqueFd& errors) {
    // adddup2 for standard error comes first, so no descriptor it needs may be the served one's new number.
    const UniqueFd error_end{::fcntl(errors.get(), F_DUPFD_CLOEXEC, served_fd + 1)};
    const UniqueFd own{::fcntl(served.get(), F_DUPFD_CLOEXEC, served_fd + 1)};
    if (!error_end || !own)
        return -1;
    SpawnPlan plan;
    plan.set(own.get(), error_end.get());
    std::vector<char*> arguments;
    for (const auto& word : words)
        arguments.push_back(const_cast<char*>(word.c_str())); // NOLINT: as exec(3) asks
    arguments.push_back(nullptr);
    pid_t pid = -1;
    errno = ::posix_spawn(&pid, words.front().c_str(), &plan.files, &plan.attributes, arguments.data(), environ);
    return errno == 0 ? pid : -1;
}

Result<ChildProcess> ChildProcess::start(const std::vector<std::string>& words, const UniqueFd& served) {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0)
        return fail_errno(Errc::host_error, "cannot make a pipe");
    ChildProcess child;
    child.errors_ = UniqueFd{pipe[0]};
    const UniqueFd far{pipe[1]};
    if (auto* const door = outside::door()) {
        const auto helper = door->start_passt(words, served.get(), far.get());
        child.helper_ = helper ? helper->number : 0;
    } else {
        child.pid_ = spawn_serving(words, served, far);
    }
    if (!child)
        return fail_errno(Errc::host_error, "cannot start " + words.front());
    return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_{std::exchange(other.pid_, -1)}, helper_{std::exchange(other.helper_, 0)}, errors_{std::move(other.errors_)},
      how_{std::move(other.how_)} {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
    if (this != &other) {
        end();
        pid_ = std::exchange(other.pid_, -1);
        helper_ = std::exchange(other.helper_, 0);
        errors_ = std::move(other.errors_);
        how_ = std::move(other.how_);
    }
    return *this;
}

/// Whether it has ended.
bool ChildProcess::look() {
    if (helper_ > 0) {
        auto* const door = outside::door();
        const auto how = door != nullptr ? door->status(helper_) : std::optional{outside::Door::unknown};
        if (!how)
            return false;
        how_ = ending(*how);
        if (door != nullptr)
            door->end(std::exchange(helper_, 0));
    } else if (pid_ > 0) {
        int status = 0;
        const pid_t got = ::waitpid(pid_, &status, WNOHANG);
        if (got != pid_ && (got >= 0 || errno != ECHILD)) // ECHILD: whoever started inox ignores SIGCHLD
            return false;
        how_ = got == pid_ ? ending(status) : "ended";
        pid_ = -1;
    }
    return true;
}

std::optional<std::string> ChildProcess::ended(std::chrono::milliseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (!look()) {
        if (std::chrono::steady_clock::now() >= until)
            return std::nullopt;
        std::this_thread::sleep_for(500us);
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
    if (!*this || ended(50ms))
        return;
    if (helper_ > 0) {
        if (auto* const door = outside::door())
            door->end(helper_);
        helper_ = 0;
        return;
    }
    ::kill(pid_, SIGKILL);
    (void)ended(50ms);
    pid_ = -1;
}

} // namespace inox
