// SPDX-License-Identifier: Apache-2.0
// Open files and folders, attributes.
#include <cerrno>
#include <climits>
#include <sys/fsuid.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/fuse.h>

#include "vmm/share/caller.hpp"
#include "vmm/share/folder.hpp"

namespace inox::share {
namespace {

std::unexpected<int> failed(int error = errno) { return std::unexpected{error}; }

/// Those of a guest's open(2) that mean something here. Not O_APPEND: the guest sends offsets, also of mapped pages.
/// Not O_DIRECT: the server's buffers are aligned to nothing.
constexpr int kept_flags = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC;
/// A lease of another program on the host makes an open fail with EAGAIN and does not keep the server waiting.
constexpr int own_flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0; }

timespec time_of(const timespec& time, bool wanted, bool now) {
    if (!wanted)
        return {0, UTIME_OMIT};
    return now ? timespec{0, UTIME_NOW} : time;
}

int set_times(int fd, const struct stat& wanted, int valid) {
    const timespec times[2] = {time_of(wanted.st_atim, (valid & FATTR_ATIME) != 0, (valid & FATTR_ATIME_NOW) != 0),
                               time_of(wanted.st_mtim, (valid & FATTR_MTIME) != 0, (valid & FATTR_MTIME_NOW) != 0)};
    return ::utimensat(fd, "", times, AT_EMPTY_PATH);
}

} // namespace

// setfsuid(2) says nothing of failures; asking again tells.
As::As(Caller caller) : root_{::geteuid() == 0} {
    constexpr auto ask = static_cast<unsigned>(-1);
    if (!root_)
        return;
    ::setfsgid(caller.group);
    ::setfsuid(caller.user);
    good_ = ::setfsgid(ask) == static_cast<int>(caller.group) && ::setfsuid(ask) == static_cast<int>(caller.user);
    if (!good_)
        errno = EPERM;
}

As::~As() {
    if (!root_)
        return;
    const int kept = errno;
    ::setfsuid(0);
    ::setfsgid(0);
    errno = kept;
}

Or<struct stat> Folder::get_attributes(NodeId id, const HandleId* handle) {
    const Node* node = nodes_.find(id);
    struct stat status {};
    if (!node)
        return failed(ESTALE);
    const int file = handle ? file_of(*handle) : -1;
    const int gone = file >= 0 ? ::fstat(file, &status) : ::fstatat(node->fd.get(), "", &status, AT_EMPTY_PATH);
    return gone != 0 ? Or<struct stat>{failed()} : status;
}

Or<struct stat> Folder::set_attributes(NodeId id, const struct stat& wanted, int valid, const HandleId* handle) {
    const Node* node = nodes_.find(id);
    if (!node)
        return failed(ESTALE);
    if (read_only_)
        return failed(EROFS);
    const int file = handle ? file_of(*handle) : -1;
    const int held = node->fd.get();
    if ((valid & FATTR_MODE) != 0) {
        if (S_ISLNK(node->type))
            return failed(EOPNOTSUPP);
        if (::chmod(path_of(held).data(), wanted.st_mode & 07777) != 0)
            return failed();
    }
    if ((valid & (FATTR_UID | FATTR_GID)) != 0) {
        const auto user = (valid & FATTR_UID) != 0 ? wanted.st_uid : static_cast<uid_t>(-1);
        const auto group = (valid & FATTR_GID) != 0 ? wanted.st_gid : static_cast<gid_t>(-1);
        if (::fchownat(held, "", user, group, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
            return failed();
    }
    if ((valid & FATTR_SIZE) != 0) {
        if (!S_ISREG(node->type))
            return failed(EINVAL);
        if ((file >= 0 ? ::ftruncate(file, wanted.st_size) : ::truncate(path_of(held).data(), wanted.st_size)) != 0)
            return failed();
    }
    if ((valid & (FATTR_ATIME | FATTR_MTIME)) != 0 && set_times(held, wanted, valid) != 0)
        return failed();
    return get_attributes(id, handle);
}

/// Only regular files and folders are ever opened: what a node is never changes.
Or<UniqueFd> Folder::open_again(const Node& node, int flags) {
    if (!S_ISREG(node.type))
        return failed(S_ISDIR(node.type) ? EISDIR : S_ISLNK(node.type) ? ELOOP : ENXIO);
    // NOLINTNEXTLINE(*-vararg)
    UniqueFd fd{::open(path_of(node.fd.get()).data(), (flags & kept_flags) | own_flags)};
    return fd ? Or<UniqueFd>{std::move(fd)} : failed();
}

Or<HandleId> Folder::keep(UniqueFd fd) {
    files_[next_handle_] = std::move(fd);
    return next_handle_++;
}

Or<HandleId> Folder::open(NodeId id, int flags) {
    const Node* node = nodes_.find(id);
    if (!node)
        return failed(ESTALE);
    if (read_only_ && writes(flags))
        return failed(EROFS);
    if (no_handle_left())
        return failed(ENFILE);
    auto fd = open_again(*node, flags);
    return fd ? keep(std::move(*fd)) : Or<HandleId>{failed(fd.error())};
}

Or<Folder::Created> Folder::create(Caller caller, NodeId parent, const char* name, mode_t mode, int flags) {
    const auto folder = changed_parent(parent, name);
    if (!folder)
        return failed(folder.error());
    if (no_handle_left())
        return failed(ENFILE);
    UniqueFd fd;
    {
        const As as{caller};
        constexpr int fresh = O_CREAT | O_EXCL | O_NOFOLLOW;
        if (as) // NOLINTNEXTLINE(*-vararg)
            fd.reset(::openat(*folder, name, (flags & kept_flags) | own_flags | fresh, mode & 07777));
    }
    if (!fd && (errno != EEXIST || (flags & O_EXCL) != 0))
        return failed();
    // NOLINTNEXTLINE(*-vararg)
    auto entry = fd ? add(UniqueFd{::open(path_of(fd.get()).data(), O_PATH | O_CLOEXEC)}) : look(*folder, name);
    if (!entry)
        return failed(entry.error());
    // It was there already: a regular file, or nothing to open.
    auto handle = fd ? keep(std::move(fd)) : open(entry->node, flags);
    if (!handle) {
        forget(entry->node, 1);
        return failed(handle.error());
    }
    return Created{*entry, *handle};
}

Or<HandleId> Folder::open_folder(NodeId id) {
    const Node* node = nodes_.find(id);
    if (!node)
        return failed(ESTALE);
    if (no_handle_left())
        return failed(ENFILE);
    UniqueFd fd{::openat(node->fd.get(), ".", O_RDONLY | O_DIRECTORY | own_flags)}; // NOLINT(*-vararg)
    if (!fd)
        return failed();
    OpenFolder folder{std::unique_ptr<DIR, OpenFolder::Close>{::fdopendir(fd.get())}};
    if (!folder.stream)
        return failed();
    static_cast<void>(fd.release());
    folders_[next_handle_] = std::move(folder);
    return next_handle_++;
}

OpenFolder* Folder::folder_of(HandleId handle) noexcept {
    const auto found = folders_.find(handle);
    return found == folders_.end() ? nullptr : &found->second;
}

int Folder::file_of(HandleId handle) noexcept {
    const auto found = files_.find(handle);
    if (found != files_.end())
        return found->second.get();
    errno = EBADF;
    return -1;
}

void Folder::close(HandleId handle) {
    folders_.erase(handle);
    if (files_.erase(handle) != 0)
        locks_.retry(); // its lock of flock(2) is gone
}

Or<std::size_t> Folder::get_attribute(NodeId id, const char* name, std::span<std::byte> value) {
    const Node* node = nodes_.find(id);
    if (!node)
        return failed(ESTALE);
    const ssize_t size = ::getxattr(path_of(node->fd.get()).data(), name, value.data(), value.size());
    return size < 0 ? Or<std::size_t>{failed()} : static_cast<std::size_t>(size);
}

Or<std::size_t> Folder::list_attributes(NodeId id, std::span<std::byte> names) {
    const Node* node = nodes_.find(id);
    if (!node)
        return failed(ESTALE);
    // NOLINTNEXTLINE: the call takes text
    auto* const out = reinterpret_cast<char*>(names.data());
    const ssize_t size = ::listxattr(path_of(node->fd.get()).data(), out, names.size());
    return size < 0 ? Or<std::size_t>{failed()} : static_cast<std::size_t>(size);
}

Done Folder::set_attribute(NodeId id, const char* name, std::span<const std::byte> value, int flags) {
    const Node* node = nodes_.find(id);
    if (!node || read_only_)
        return failed(node ? EROFS : ESTALE);
    const auto path = path_of(node->fd.get());
    return ::setxattr(path.data(), name, value.data(), value.size(), flags) != 0 ? Done{failed()} : Done{};
}

Done Folder::remove_attribute(NodeId id, const char* name) {
    const Node* node = nodes_.find(id);
    if (!node || read_only_)
        return failed(node ? EROFS : ESTALE);
    return ::removexattr(path_of(node->fd.get()).data(), name) != 0 ? Done{failed()} : Done{};
}

} // namespace inox::share
