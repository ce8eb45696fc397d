// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/folder.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/share/caller.hpp"

namespace inox::share {
namespace {

std::unexpected<int> failed(int error = errno) { return std::unexpected{error}; }

/// One step: neither here nor up, and no path.
int name_error(const char* name) {
    const std::string_view text{name};
    if (text.size() > NAME_MAX)
        return ENAMETOOLONG;
    return text.empty() || text == "." || text == ".." || text.contains('/') ? EINVAL : 0;
}

UniqueFd step(int folder, const char* name) {
    return UniqueFd{::openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)}; // NOLINT(*-vararg)
}

} // namespace

Folder::Limits Folder::limits() {
    constexpr std::size_t own = 64;
    constexpr std::size_t most_nodes = 1024 * 1024;
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const std::size_t all = std::max<std::size_t>(limit.rlim_cur, 2 * own) - own;
    const std::size_t nodes = std::min(all - all / 4, most_nodes);
    return {nodes, std::min(all - nodes, most_nodes)};
}

Folder::Folder(UniqueFd root, bool read_only, Limits limits)
    : read_only_{read_only}, limits_{limits}, nodes_{std::move(root), limits.nodes} {}

void Folder::forget_all() {
    locks_.drop_all();
    files_.clear();
    folders_.clear();
    nodes_.forget_all();
}

Or<int> Folder::parent_of(NodeId parent, const char* name) {
    const Node* node = nodes_.find(parent);
    if (!node)
        return failed(ESTALE);
    if (!S_ISDIR(node->type))
        return failed(ENOTDIR);
    if (const int error = name_error(name); error != 0)
        return failed(error);
    return node->fd.get();
}

Or<int> Folder::changed_parent(NodeId parent, const char* name) {
    auto found = parent_of(parent, name);
    return found && read_only_ ? Or<int>{failed(EROFS)} : found;
}

Or<Entry> Folder::add(UniqueFd fd) {
    Entry entry;
    auto id = nodes_.add(std::move(fd), entry.status);
    if (!id)
        return failed(id.error());
    entry.node = *id;
    return entry;
}

Or<Entry> Folder::look(int parent, const char* name) {
    auto fd = step(parent, name);
    return fd ? add(std::move(fd)) : Or<Entry>{failed()};
}

Or<Entry> Folder::lookup(NodeId parent, const char* name) {
    const auto folder = parent_of(parent, name);
    return folder ? look(*folder, name) : Or<Entry>{failed(folder.error())};
}

void Folder::forget(NodeId node, std::uint64_t lookups) {
    if (nodes_.forget(node, lookups))
        locks_.drop(node);
}

Or<std::string> Folder::read_link(NodeId id) {
    const Node* node = nodes_.find(id);
    if (!node)
        return failed(ESTALE);
    std::array<char, PATH_MAX> target{};
    const ssize_t size = ::readlinkat(node->fd.get(), "", target.data(), target.size());
    return size < 0 ? Or<std::string>{failed()} : std::string{target.data(), static_cast<std::size_t>(size)};
}

Or<struct statvfs> Folder::statistics(NodeId id) {
    const Node* node = nodes_.find(id);
    struct statvfs all {};
    if (!node)
        return failed(ESTALE);
    return ::fstatvfs(node->fd.get(), &all) != 0 ? Or<struct statvfs>{failed()} : all;
}

Or<Entry> Folder::make_node(Caller caller, NodeId parent, const char* name, mode_t mode, dev_t device) {
    const auto folder = changed_parent(parent, name);
    if (!folder)
        return failed(folder.error());
    {
        const As as{caller};
        if (!as || ::mknodat(*folder, name, mode, device) != 0)
            return failed();
    }
    return look(*folder, name);
}

Or<Entry> Folder::make_folder(Caller caller, NodeId parent, const char* name, mode_t mode) {
    const auto folder = changed_parent(parent, name);
    if (!folder)
        return failed(folder.error());
    {
        const As as{caller};
        if (!as || ::mkdirat(*folder, name, mode) != 0)
            return failed();
    }
    return look(*folder, name);
}

Or<Entry> Folder::make_link(Caller caller, NodeId parent, const char* name, const char* target) {
    const auto folder = changed_parent(parent, name);
    if (!folder)
        return failed(folder.error());
    {
        const As as{caller};
        if (!as || ::symlinkat(target, *folder, name) != 0)
            return failed();
    }
    return look(*folder, name);
}

Or<Entry> Folder::link(NodeId id, NodeId parent, const char* name) {
    const auto folder = changed_parent(parent, name);
    if (!folder)
        return failed(folder.error());
    const Node* node = nodes_.find(id);
    if (!node)
        return failed(ESTALE);
    // The magic link leads to the node itself, also where that is a symbolic link.
    if (::linkat(AT_FDCWD, path_of(node->fd.get()).data(), *folder, name, AT_SYMLINK_FOLLOW) != 0)
        return failed();
    return look(*folder, name);
}

Done Folder::remove(NodeId parent, const char* name, int flags) {
    const auto folder = changed_parent(parent, name);
    if (!folder)
        return failed(folder.error());
    return ::unlinkat(*folder, name, flags) != 0 ? Done{failed()} : Done{};
}

Done Folder::rename(NodeId from, const char* name, NodeId to, const char* new_name, unsigned flags) {
    const auto folder = changed_parent(from, name);
    if (!folder)
        return failed(folder.error());
    const auto target = changed_parent(to, new_name);
    if (!target)
        return failed(target.error());
    if ((flags & ~(unsigned{RENAME_NOREPLACE} | unsigned{RENAME_EXCHANGE})) != 0)
        return failed(EINVAL);
    return ::renameat2(*folder, name, *target, new_name, flags) != 0 ? Done{failed()} : Done{};
}

int Folder::set_lock(NodeId node, std::uint64_t owner, const struct flock& lock) {
    return locks_.set(node, owner, lock, [this, node] { return open_for_locks(node); });
}

int Folder::get_lock(NodeId node, std::uint64_t owner, struct flock& lock) {
    return locks_.get(node, owner, lock, [this, node] { return open_for_locks(node); });
}

int Folder::open_for_locks(NodeId id) {
    const Node* node = nodes_.find(id);
    if (!node || no_handle_left()) {
        errno = node ? ENFILE : ESTALE;
        return -1;
    }
    auto fd = read_only_ ? Or<UniqueFd>{failed(EROFS)} : open_again(*node, O_RDWR);
    if (!fd) // a lock for reading needs no more
        fd = open_again(*node, O_RDONLY);
    if (!fd) {
        errno = fd.error();
        return -1;
    }
    return fd->release();
}

} // namespace inox::share
