// SPDX-License-Identifier: Apache-2.0
// The folder as the guest uses it: one function for each operation, in terms of numbers of nodes and of open files.
//
// A name is one step from a folder that is held, and never followed if it is a link; so no name and no link leads out,
// and a race with a rename can at most meet another entry of the same folder. What is mounted below the folder is a
// part of it.
#pragma once

#include <cstdint>
#include <dirent.h>
#include <expected>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unordered_map>

#include "vmm/share/locks.hpp"
#include "vmm/share/nodes.hpp"

namespace inox::share {

/// What a call gives, or an errno.
template <class T> using Or = std::expected<T, int>;
using Done = Or<void>;

/// The guest's process. Only where the server is root does it matter: what is made is made as this user.
struct Caller {
    uid_t user;
    gid_t group;
};

struct Entry {
    NodeId node{};
    struct stat status {};
};

using HandleId = std::uint64_t;

struct OpenFolder {
    struct Close {
        void operator()(DIR* folder) const { ::closedir(folder); }
    };
    std::unique_ptr<DIR, Close> stream;
    off_t offset{}; ///< of the next entry
};

class Folder {
public:
    struct Limits {
        std::size_t nodes;   ///< beside the root
        std::size_t handles; ///< open files and folders, and owners of locks
    };
    /// Of this process's descriptors.
    static Limits limits();

    /// `root`: an O_PATH descriptor.
    Folder(UniqueFd root, bool read_only, Limits limits);

    Or<Entry> lookup(NodeId parent, const char* name);
    /// True when the node is gone.
    void forget(NodeId node, std::uint64_t lookups);

    Or<struct stat> get_attributes(NodeId node, const HandleId* handle);
    /// `valid`: FUSE_SET_ATTR_ bits.
    Or<struct stat> set_attributes(NodeId node, const struct stat& wanted, int valid, const HandleId* handle);
    Or<std::string> read_link(NodeId node);
    Or<struct statvfs> statistics(NodeId node);

    Or<Entry> make_node(Caller caller, NodeId parent, const char* name, mode_t mode, dev_t device);
    Or<Entry> make_folder(Caller caller, NodeId parent, const char* name, mode_t mode);
    Or<Entry> make_link(Caller caller, NodeId parent, const char* name, const char* target);
    Or<Entry> link(NodeId node, NodeId parent, const char* name);
    /// `flags`: AT_REMOVEDIR or 0.
    Done remove(NodeId parent, const char* name, int flags);
    Done rename(NodeId from, const char* name, NodeId to, const char* new_name, unsigned flags);

    Or<HandleId> open(NodeId node, int flags);
    struct Created {
        Entry entry;
        HandleId handle;
    };
    Or<Created> create(Caller caller, NodeId parent, const char* name, mode_t mode, int flags);
    Or<HandleId> open_folder(NodeId node);
    /// Null when there is none of that number.
    OpenFolder* folder_of(HandleId handle) noexcept;
    /// Descriptor of an open file, or -1 and EBADF.
    int file_of(HandleId handle) noexcept;
    void close(HandleId handle);

    Or<std::size_t> get_attribute(NodeId node, const char* name, std::span<std::byte> value);
    Or<std::size_t> list_attributes(NodeId node, std::span<std::byte> names);
    Done set_attribute(NodeId node, const char* name, std::span<const std::byte> value, int flags);
    Done remove_attribute(NodeId node, const char* name);

    int set_lock(NodeId node, std::uint64_t owner, const struct flock& lock);
    int get_lock(NodeId node, std::uint64_t owner, struct flock& lock);
    [[nodiscard]] Locks& locks() noexcept { return locks_; }
    [[nodiscard]] bool read_only() const noexcept { return read_only_; }

    /// As before the first use: only the root is known and nothing is open.
    void forget_all();
    [[nodiscard]] std::size_t nodes() const noexcept { return nodes_.count(); }
    [[nodiscard]] std::size_t handles() const noexcept { return files_.size() + folders_.size() + locks_.count(); }

private:
    /// Descriptor of a folder in which `name` may be looked for, or an errno.
    Or<int> parent_of(NodeId parent, const char* name);
    /// The same for a change of the folder.
    Or<int> changed_parent(NodeId parent, const char* name);
    Or<Entry> look(int parent, const char* name);
    Or<Entry> add(UniqueFd fd);
    Or<UniqueFd> open_again(const Node& node, int flags);
    Or<HandleId> keep(UniqueFd fd);
    [[nodiscard]] bool no_handle_left() const noexcept { return handles() >= limits_.handles; }
    int open_for_locks(NodeId node);

    const bool read_only_;
    const Limits limits_;
    Nodes nodes_;
    HandleId next_handle_{1};
    std::unordered_map<HandleId, UniqueFd> files_{};
    std::unordered_map<HandleId, OpenFolder> folders_{};
    Locks locks_{};
};

} // namespace inox::share
