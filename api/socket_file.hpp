// SPDX-License-Identifier: Apache-2.0
// The unix socket's file: who may reach it, and its life.
#pragma once

#include <string>
#include <sys/types.h>

#include "vmm/base/os.hpp"

namespace inox::api {

/// Whether a peer may talk to us: our own user, root, and members of the group.
class PeerRule {
public:
    PeerRule() = default;
    explicit PeerRule(gid_t group) : group_{group}, has_group_{true} {}
    [[nodiscard]] bool admits(int socket) const;

private:
    gid_t group_{};
    bool has_group_{false};
};

/// A listening unix socket. "fd:N" as its path is one that whoever started inox made: its file is theirs, and stays.
/// Else its file has its mode, 0600 or with a group 0660, before anybody can reach it, and goes away with this object
/// unless somebody replaced it.
class SocketFile {
public:
    static constexpr std::size_t longest_path = 107;

    /// A file left behind by a process that is gone is replaced; a socket that somebody serves is refused (in_use).
    /// `group`: name or number; empty for none. `whose`: for people.
    static Result<SocketFile> create(const std::string& path, const std::string& group, const char* whose = "API");
    // Whether create() would work with this path, this group; nothing is made or removed.
    static Result<void> check_path(const std::string& path, const char* whose = "API");
    static Result<void> check_group(const std::string& group);
    SocketFile(SocketFile&& other) noexcept = default;
    SocketFile& operator=(SocketFile&&) = delete;
    SocketFile(const SocketFile&) = delete;
    SocketFile& operator=(const SocketFile&) = delete;
    ~SocketFile();

    [[nodiscard]] int fd() const { return socket_.get(); }
    [[nodiscard]] const PeerRule& peers() const { return peers_; }

private:
    SocketFile(UniqueFd socket, std::string path, PeerRule peers);

    UniqueFd socket_;
    std::string path_;
    PeerRule peers_;
    dev_t device_{};
    ino_t inode_{};
};

} // namespace inox::api
