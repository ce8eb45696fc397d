// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/process.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" { // glibc 2.36 forgot it in this header
#include <sys/pidfd.h>
}

#include "vmm/base/log.hpp"
#include "vmm/base/open_hint.hpp"
#include "vmm/base/outside/outside.hpp"
#ifdef INOX_WITH_LIBFUSE
#include "vmm/share/confine.hpp"
#include "vmm/share/server.hpp"
#endif

namespace inox::share {
namespace {

// The server's descriptors.
constexpr int server_socket = 3;
constexpr int server_folder = 4;

/// Out of the way of the numbers that the server's descriptors get.
UniqueFd moved_up(int fd) { return UniqueFd{::fcntl(fd, F_DUPFD_CLOEXEC, 16)}; } // NOLINT(*-vararg)

struct Actions {
    posix_spawn_file_actions_t all{};
    Actions() { ::posix_spawn_file_actions_init(&all); }
    ~Actions() { ::posix_spawn_file_actions_destroy(&all); }
    Actions(const Actions&) = delete;
    Actions& operator=(const Actions&) = delete;
};

struct Attributes {
    posix_spawnattr_t all{};
    Attributes() { ::posix_spawnattr_init(&all); }
    ~Attributes() { ::posix_spawnattr_destroy(&all); }
    Attributes(const Attributes&) = delete;
    Attributes& operator=(const Attributes&) = delete;
};

constexpr int end_time_ms = 40;
constexpr int socket_room = 1024 * 1024;

std::unexpected<Error> cannot_open(const std::string& path) {
    return fail_errno(Errc::not_found, "cannot share the folder '" + path + "'",
                      errno == ENOTDIR ? "name a folder" : open_hint(errno, "name a folder that exists"));
}

} // namespace

Result<UniqueFd> open_folder(const std::string& path) {
    if (!available())
        return fail(Errc::unsupported, "this build of inox has no server for folders: it was built without libfuse 3",
                    "start a daemon such as virtiofsd and name its socket instead of the path");
    UniqueFd folder{::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!folder)
        return cannot_open(path);
    // NOLINTNEXTLINE(*-vararg)
    const UniqueFd readable{::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!readable || ::faccessat(folder.get(), ".", X_OK, AT_EACCESS) != 0)
        return fail_errno(Errc::not_found, "cannot share the folder '" + path + "'",
                          "the user that runs inox must be able to list it and to enter it");
    return folder;
}

ServerProcess& ServerProcess::operator=(ServerProcess&& other) noexcept {
    end();
    process_ = std::move(other.process_);
    helper_ = std::exchange(other.helper_, 0);
    return *this;
}

/// How it ended, once it is gone; empty when it is not, or was reaped.
std::string ServerProcess::reap() noexcept {
    if (helper_ != 0) {
        auto* const door = outside::door();
        const auto how = door != nullptr ? door->status(helper_) : std::nullopt;
        if (!how || *how == outside::Door::unknown)
            return {};
        return WIFEXITED(*how) ? format("exit status %d", WEXITSTATUS(*how)) : format("signal %d", WTERMSIG(*how));
    }
    siginfo_t info{};
    if (::waitid(P_PIDFD, static_cast<id_t>(process_.get()), &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
        return {};
    return format(info.si_code == CLD_EXITED ? "exit status %d" : "signal %d", info.si_status);
}

std::string ServerProcess::outcome() noexcept {
    if (!process_)
        return "not started";
    pollfd gone{process_.get(), POLLIN, 0};
    ::poll(&gone, 1, end_time_ms);
    const auto how = reap();
    return how.empty() ? "still running" : how;
}

/// One that waits for storage cannot be killed; it stays behind as a child until this process ends.
void ServerProcess::end() noexcept {
    if (!process_)
        return;
    if (helper_ != 0) {
        if (auto* const door = outside::door())
            door->end(helper_);
        helper_ = 0;
    } else {
        ::pidfd_send_signal(process_.get(), SIGKILL, nullptr, 0);
        pollfd gone{process_.get(), POLLIN, 0};
        ::poll(&gone, 1, end_time_ms);
        (void)reap();
    }
    process_.reset();
}

Spawned spawn(int folder, bool read_only, const char* program) {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return {};
    UniqueFd near{ends[0]};
    const UniqueFd given{ends[1]};
    for (const int end : ends) // as far as the host lets it (net.core.wmem_max): fewer turns for one message
        ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &socket_room, sizeof socket_room);
    const auto socket = moved_up(given.get());
    const auto root = moved_up(folder);
    if (!socket || !root)
        return {};

    Actions actions;
    ::posix_spawn_file_actions_addopen(&actions.all, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    ::posix_spawn_file_actions_adddup2(&actions.all, STDIN_FILENO, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions.all, socket.get(), server_socket);
    ::posix_spawn_file_actions_adddup2(&actions.all, root.get(), server_folder);
    ::posix_spawn_file_actions_addclosefrom_np(&actions.all, server_folder + 1);
    // The terminal's signals are for the guest and for inox.
    Attributes attributes;
    sigset_t none{};
    sigset_t all{};
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes.all, &none);
    ::posix_spawnattr_setsigdefault(&attributes.all, &all);
    ::posix_spawnattr_setflags(&attributes.all,
                               static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID));
    std::string words[] = {"inox", std::string{command}, read_only ? "ro" : "rw"};
    char* arguments[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
    char* environment[] = {nullptr};
    pid_t child{};
    errno = ::posix_spawn(&child, program, &actions.all, &attributes.all, arguments, environment);
    return errno == 0 ? Spawned{child, std::move(near)} : Spawned{};
}

namespace {

constexpr const char* cannot_start = "cannot start the server of a shared folder";

} // namespace

Result<StartedServer> start(int folder, bool read_only, const char* program) {
    auto spawned = spawn(folder, read_only, program);
    if (spawned.pid < 0)
        return fail_errno(Errc::host_error, std::string{cannot_start} + " (" + program + ")");
    return StartedServer{std::move(spawned.socket), ServerProcess{UniqueFd{::pidfd_open(spawned.pid, 0)}}};
}

Result<StartedServer> start_outside(const std::string& path, bool read_only) {
    auto* const door = outside::door();
    auto helper = door != nullptr ? door->start_share(path, read_only) : std::nullopt;
    if (!helper)
        return errno == EAGAIN ? fail_errno(Errc::host_error, cannot_start) : cannot_open(path);
    return StartedServer{std::move(helper->socket), ServerProcess{std::move(helper->process), helper->number}};
}

#ifndef INOX_WITH_LIBFUSE

bool available() noexcept { return false; }
int serve(std::span<const char* const> /*arguments*/) { return 1; }

#else

bool available() noexcept { return true; }

int serve(std::span<const char* const> arguments) {
    const bool read_only = arguments.size() != 1 || std::string_view{arguments[0]} != "rw";
    UniqueFd socket{server_socket};
    UniqueFd folder{server_folder};
    if (auto done = confine(folder.get(), read_only); !done) {
        log::write(log::Level::error, "%s", done.error().message().c_str());
        return 1;
    }
    Server server{std::move(socket), Folder{std::move(folder), read_only, Folder::limits()}};
    return server.run() ? 0 : 1;
}

#endif

} // namespace inox::share
