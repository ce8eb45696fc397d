// SPDX-License-Identifier: Apache-2.0
#include "api/socket_file.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "vmm/base/open_hint.hpp"
#include "vmm/base/outside/given_socket.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/base/unix_socket.hpp"

namespace inox::api {
namespace {

std::string at(const std::string& path, const char* whose) {
    return format("Failed to open the %s socket at: ", whose) + path + ".";
}

const sockaddr* generic(const sockaddr_un& address) {
    return reinterpret_cast<const sockaddr*>(&address); // NOLINT: what bind(2) and connect(2) take
}

/// Reads /etc/group itself, because a static program cannot load the C library's plug-ins.
Result<gid_t> find_group(const std::string& group) {
    if (group.find_first_not_of("0123456789") == group.npos && group.size() < 10)
        return static_cast<gid_t>(std::stoul(group));
    std::ifstream file{"/etc/group"};
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with(group + ":"))
            continue;
        const auto number = line.find(':', group.size() + 1);
        if (number != line.npos)
            return static_cast<gid_t>(std::strtoul(line.c_str() + number + 1, nullptr, 10));
    }
    return fail(Errc::bad_option, "there is no group '" + group + "'", "see /etc/group, or give its number");
}

/// Two starts at the same time must not take each other's new socket for a stale one, so they lock the folder in turn.
UniqueFd lock_folder(const std::string& path) {
    const auto slash = path.rfind('/');
    const std::string folder = slash == path.npos ? "." : path.substr(0, slash + 1);
    UniqueFd fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    // If another program keeps this folder locked, the start goes on without the lock.
    for (int i = 0; fd && i < 50 && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    return fd;
}

Result<void> check_length(const std::string& path, const char* whose) {
    if (path.empty())
        return fail(Errc::bad_option, format("the %s socket's path is empty", whose),
                    "name a file that does not exist yet");
    if (path.size() > SocketFile::longest_path)
        return fail(Errc::bad_option,
                    format("the %s socket's path has %zu bytes: a unix socket takes at most %zu", whose, path.size(),
                           SocketFile::longest_path),
                    "choose a shorter path, or a relative one");
    return {};
}

std::unexpected<Error> cannot_make(const std::string& path, const char* whose) {
    return fail_errno(Errc::output_unwritable, at(path, whose) + " Cannot make it",
                      open_hint(errno, "name a file in a folder you may write to"));
}

/// Whether an orphaned socket is in the way; everything else there is refused.
Result<bool> is_stale(const std::string& path, const char* whose) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0)
        return false;
    if (!S_ISSOCK(status.st_mode))
        return fail(Errc::in_use, at(path, whose) + " There is a file of another kind", "choose another path");
    const UniqueFd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const auto address = *unix_address(path); // its length was looked at
    if (!probe || ::connect(probe.get(), generic(address), sizeof address) == 0 || errno != ECONNREFUSED)
        return fail(Errc::in_use, at(path, whose) + " Check that it is not already used.",
                    "another process answers there: end it, or choose another path");
    return true;
}

/// Removes a stale socket to make room for a new one.
Result<void> remove_stale(const std::string& path, const char* whose) {
    if (TRY(is_stale(path, whose)) && ::unlink(path.c_str()) != 0 && errno != ENOENT)
        return fail_errno(Errc::in_use, at(path, whose) + " The stale socket there cannot be removed",
                          "remove it, or choose another path");
    return {};
}

} // namespace

bool PeerRule::admits(int socket) const {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return false;
    if (peer.uid == ::geteuid() || peer.uid == 0)
        return true;
    if (!has_group_)
        return false;
    if (peer.gid == group_)
        return true;
    std::vector<gid_t> groups(256);
    size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0)
        return false;
    groups.resize(size / sizeof(gid_t));
    for (const auto group : groups)
        if (group == group_)
            return true;
    return false;
}

SocketFile::SocketFile(UniqueFd socket, std::string path, PeerRule peers)
    : socket_{std::move(socket)}, path_{std::move(path)}, peers_{peers} {
    struct stat status {};
    if (::lstat(path_.c_str(), &status) == 0) {
        device_ = status.st_dev;
        inode_ = status.st_ino;
    }
}

SocketFile::~SocketFile() {
    struct stat status {};
    if (socket_ && !path_.empty() && ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
        status.st_ino == inode_)
        outside::remove(path_);
}

Result<void> SocketFile::check_path(const std::string& path, const char* whose) {
    if (const auto given = given_socket::number(path))
        return given_socket::check(*given);
    TRY_VOID(check_length(path, whose));
    TRY_VOID(is_stale(path, whose));
    errno = creation_error(path);
    return errno == 0 ? Result<void>{} : cannot_make(path, whose);
}

Result<void> SocketFile::check_group(const std::string& group) {
    if (!group.empty())
        TRY_VOID(find_group(group));
    return {};
}

Result<SocketFile> SocketFile::create(const std::string& path, const std::string& group, const char* whose) {
    TRY_VOID(check_length(path, whose));
    PeerRule peers;
    gid_t owner = static_cast<gid_t>(-1);
    if (!group.empty()) {
        owner = TRY(find_group(group));
        peers = PeerRule{owner};
    }
    if (const auto given = given_socket::number(path)) {
        TRY_VOID(given_socket::check(*given));
        UniqueFd own{::fcntl(*given, F_DUPFD_CLOEXEC, 3)};
        if (!own || ::fcntl(own.get(), F_SETFL, ::fcntl(own.get(), F_GETFL) | O_NONBLOCK) != 0)
            return fail_errno(Errc::host_error, at(path, whose) + " Cannot use it");
        ::close(*given);
        return SocketFile{std::move(own), {}, peers};
    }
    UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket)
        return fail_errno(Errc::host_error, format("no socket for the %s", whose));
    const auto lock = lock_folder(path);
    TRY_VOID(remove_stale(path, whose));
    const auto address = *unix_address(path); // its length was looked at
    const bool shared = !group.empty();
    if (!bind_with_mode(socket.get(), address, shared ? 0660 : 0600))
        return cannot_make(path, whose);
    SocketFile file{std::move(socket), path, peers};
    // Nobody can connect before listen(). If somebody has replaced the socket by a link, the link is not followed.
    if (shared && ::lchown(path.c_str(), -1U, owner) != 0)
        return fail_errno(Errc::host_error, at(path, whose) + " Cannot set its group",
                          "you must be a member of the group, or root");
    if (::listen(file.fd(), SOMAXCONN) != 0)
        return fail_errno(Errc::host_error, at(path, whose) + " Cannot listen");
    return file;
}

} // namespace inox::api
