// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/child_process.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <span>
#include <spawn.h>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>

extern "C" { // glibc 2.36 forgot it in this header
#include <sys/pidfd.h>
}

#include "vmm/base/outside/outside.hpp"

extern char** environ; // NOLINT: POSIX gives it no header

namespace inox {
namespace {

using namespace std::chrono_literals;

constexpr int first_fd = STDERR_FILENO + 1;

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

    void set(std::span<const UniqueFd> descriptors, const UniqueFd& errors) {
        ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
        ::posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDOUT_FILENO);
        if (errors)
            ::posix_spawn_file_actions_adddup2(&files, errors.get(), STDERR_FILENO);
        int own = first_fd;
        for (const auto& fd : descriptors)
            ::posix_spawn_file_actions_adddup2(&files, fd.get(), own++);
        ::posix_spawn_file_actions_addclosefrom_np(&files, own);
        sigset_t none;
        sigset_t all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        ::posix_spawnattr_setsigmask(&attributes, &none);
        ::posix_spawnattr_setsigdefault(&attributes, &all);
        ::posix_spawnattr_setflags(
            &attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID));
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

pid_t spawn(const ServingProgram& program) {
    // Out of the way of the numbers that its descriptors get
    const int above = first_fd + static_cast<int>(program.descriptors.size());
    const auto copy = [&](int fd) { return UniqueFd{::fcntl(fd, F_DUPFD_CLOEXEC, above)}; }; // NOLINT(*-vararg)
    std::vector<UniqueFd> descriptors;
    for (const int fd : program.descriptors)
        if (!descriptors.emplace_back(copy(fd)))
            return -1;
    const auto errors = program.errors >= 0 ? copy(program.errors) : UniqueFd{};
    if (program.errors >= 0 && !errors)
        return -1;
    SpawnPlan plan;
    plan.set(descriptors, errors);
    std::vector<char*> words;
    for (const auto& word : program.words)
        words.push_back(const_cast<char*>(word.c_str())); // NOLINT: as exec(3) asks
    words.push_back(nullptr);
    std::array<char*, 1> nothing{};
    pid_t pid = -1;
    errno = ::posix_spawn(&pid, program.path.c_str(), &plan.files, &plan.attributes, words.data(),
                          program.environment ? environ : nothing.data());
    return errno == 0 ? pid : -1;
}

Result<ChildProcess> ChildProcess::start(const ServingProgram& program) {
    const pid_t pid = spawn(program);
    if (pid < 0)
        return fail_errno(Errc::host_error, "cannot start " + program.path);
    UniqueFd process{::pidfd_open(pid, 0)};
    if (!process) {
        auto failed = fail_errno(Errc::host_error, "cannot watch " + program.path);
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        return failed;
    }
    return ChildProcess{std::move(process)};
}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
    if (this != &other) {
        end({});
        process_ = std::move(other.process_);
        helper_ = std::exchange(other.helper_, 0);
        how_ = std::move(other.how_);
    }
    return *this;
}

/// How it ended, as far as anybody can tell: whoever started inox may ignore SIGCHLD, and a Door may be gone.
std::string ChildProcess::reap() noexcept {
    if (helper_ != 0) {
        auto* const door = outside::door();
        const auto status = door != nullptr ? door->status(helper_) : std::nullopt;
        if (door != nullptr)
            door->end(helper_);
        return status && *status != outside::Door::unknown ? ending(*status) : "ended";
    }
    siginfo_t info{};
    if (::waitid(P_PIDFD, static_cast<id_t>(process_.get()), &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
        return "ended";
    return ending(info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status);
}

std::optional<std::string> ChildProcess::ended(std::chrono::milliseconds patience) {
    if (process_) {
        pollfd gone{process_.get(), POLLIN, 0};
        if (::poll(&gone, 1, static_cast<int>(patience.count())) <= 0)
            return std::nullopt;
        how_ = reap();
        helper_ = 0;
        process_.reset();
    }
    return how_;
}

void ChildProcess::end(std::chrono::milliseconds patience) noexcept {
    if (ended(patience))
        return;
    if (helper_ != 0) {
        if (auto* const door = outside::door())
            door->end(helper_);
        helper_ = 0;
    } else {
        ::pidfd_send_signal(process_.get(), SIGKILL, nullptr, 0);
        (void)ended(50ms);
    }
    process_.reset();
}

} // namespace inox
