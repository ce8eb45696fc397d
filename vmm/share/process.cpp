// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/process.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

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

constexpr int socket_room = 1024 * 1024;
constexpr const char* cannot_start = "cannot start the server of a shared folder";

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

std::optional<ServerPlan> plan(int folder, bool read_only, const char* program) {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return {};
    for (const int end : ends) // as far as the host lets it (net.core.wmem_max): fewer turns for one message
        ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &socket_room, sizeof socket_room);
    return ServerPlan{.socket = UniqueFd{ends[0]},
                      .given = UniqueFd{ends[1]},
                      .program = {.path = program,
                                  .words = {"inox", std::string{command}, read_only ? "ro" : "rw"},
                                  .descriptors = {ends[1], folder},
                                  .environment = false}};
}

Result<StartedServer> start(int folder, bool read_only, const char* program) {
    auto planned = plan(folder, read_only, program);
    if (!planned)
        return fail_errno(Errc::host_error, cannot_start);
    auto process = ChildProcess::start(planned->program);
    if (!process)
        return fail_errno(Errc::host_error, std::string{cannot_start} + " (" + program + ")");
    return StartedServer{std::move(planned->socket), std::move(*process)};
}

Result<StartedServer> start_outside(const std::string& path, bool read_only) {
    auto* const door = outside::door();
    auto helper = door != nullptr ? door->start_share(path, read_only) : std::nullopt;
    if (!helper)
        return errno == EAGAIN ? fail_errno(Errc::host_error, cannot_start) : cannot_open(path);
    return StartedServer{std::move(helper->socket), ChildProcess{std::move(helper->process), helper->number}};
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
