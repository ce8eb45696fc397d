// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/operations.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <sys/file.h>
#include <unistd.h>

#include "vmm/share/listing.hpp"
#include "vmm/share/server.hpp"

namespace inox::share {
namespace {

/// Bytes in one reply of an extended attribute or their list (Linux' own limit).
constexpr std::size_t max_attribute = 64 * 1024;
/// Bytes copied from file to file by one request; the guest asks again.
constexpr std::size_t max_copy = 64 * 1024 * 1024;

Server& server_of(fuse_req_t request) { return *static_cast<Server*>(::fuse_req_userdata(request)); }
Folder& folder_of(fuse_req_t request) { return server_of(request).folder(); }
Caller caller_of(fuse_req_t request) {
    const fuse_ctx* const context = ::fuse_req_ctx(request);
    return {context->uid, context->gid};
}

void answer(fuse_req_t request, int error) { ::fuse_reply_err(request, error); }
void answer(fuse_req_t request, const Done& done) { answer(request, done ? 0 : done.error()); }
/// Of a call that answers 0 or sets errno.
void answer_call(fuse_req_t request, int result) { answer(request, result == 0 ? 0 : errno); }

void answer(fuse_req_t request, const Or<Entry>& entry) {
    if (!entry)
        return answer(request, entry.error());
    const auto out = entry_of(*entry);
    ::fuse_reply_entry(request, &out);
}

void answer(fuse_req_t request, const Or<struct stat>& status) {
    if (!status)
        return answer(request, status.error());
    ::fuse_reply_attr(request, &*status, believed);
}

void answer_open(fuse_req_t request, const Or<HandleId>& handle, fuse_file_info* info) {
    if (!handle)
        return answer(request, handle.error());
    info->fh = *handle;
    ::fuse_reply_open(request, info);
}

// NOLINTBEGIN(bugprone-easily-swappable-parameters): libfuse's order

void start(void* /*server*/, fuse_conn_info* connection) {
    constexpr unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS |
                                FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS |
                                FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS;
    connection->want = connection->capable & wanted;
}

void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
    answer(request, folder_of(request).lookup(parent, name));
}

void forget(fuse_req_t request, fuse_ino_t node, std::uint64_t lookups) {
    folder_of(request).forget(node, lookups);
    ::fuse_reply_none(request);
}

void forget_multi(fuse_req_t request, size_t count, fuse_forget_data* all) {
    for (const auto& one : std::span{all, count})
        folder_of(request).forget(one.ino, one.nlookup);
    ::fuse_reply_none(request);
}

void getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
    answer(request, folder_of(request).get_attributes(node, info ? &info->fh : nullptr));
}

void setattr(fuse_req_t request, fuse_ino_t node, struct stat* wanted, int valid, fuse_file_info* info) {
    answer(request, folder_of(request).set_attributes(node, *wanted, valid, info ? &info->fh : nullptr));
}

void readlink(fuse_req_t request, fuse_ino_t node) {
    const auto target = folder_of(request).read_link(node);
    if (!target)
        return answer(request, target.error());
    ::fuse_reply_readlink(request, target->c_str());
}

void mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
    answer(request, folder_of(request).make_node(caller_of(request), parent, name, mode, device));
}

void mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
    answer(request, folder_of(request).make_folder(caller_of(request), parent, name, mode));
}

void symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
    answer(request, folder_of(request).make_link(caller_of(request), parent, name, target));
}

void link(fuse_req_t request, fuse_ino_t node, fuse_ino_t parent, const char* name) {
    answer(request, folder_of(request).link(node, parent, name));
}

void unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
    answer(request, folder_of(request).remove(parent, name, 0));
}

void rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
    answer(request, folder_of(request).remove(parent, name, AT_REMOVEDIR));
}

void rename(fuse_req_t request, fuse_ino_t from, const char* name, fuse_ino_t to, const char* new_name,
            unsigned flags) {
    answer(request, folder_of(request).rename(from, name, to, new_name, flags));
}

void open(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
    answer_open(request, folder_of(request).open(node, info->flags), info);
}

void create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
    const auto created = folder_of(request).create(caller_of(request), parent, name, mode, info->flags);
    if (!created)
        return answer(request, created.error());
    info->fh = created->handle;
    const auto entry = entry_of(created->entry);
    ::fuse_reply_create(request, &entry, info);
}

void read(fuse_req_t request, fuse_ino_t /*node*/, size_t size, off_t offset, fuse_file_info* info) {
    const auto room = server_of(request).room();
    const int file = folder_of(request).file_of(info->fh);
    const ssize_t got = file < 0 ? -1 : ::pread(file, room.data(), std::min(size, room.size()), offset);
    if (got < 0)
        return answer(request, errno);
    // NOLINTNEXTLINE: the reply is text to libfuse
    ::fuse_reply_buf(request, reinterpret_cast<const char*>(room.data()), static_cast<size_t>(got));
}

void write(fuse_req_t request, fuse_ino_t /*node*/, const char* data, size_t size, off_t offset, fuse_file_info* info) {
    const int file = folder_of(request).file_of(info->fh);
    const ssize_t done = file < 0 ? -1 : ::pwrite(file, data, size, offset);
    if (done < 0)
        return answer(request, errno);
    ::fuse_reply_write(request, static_cast<size_t>(done));
}

/// One close(2) of a process of the guest: its locks of fcntl(2) go, and what the host's file system has to complain.
void flush(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
    Folder& folder = folder_of(request);
    const int file = folder.file_of(info->fh);
    const int copy = file < 0 ? -1 : ::fcntl(file, F_DUPFD_CLOEXEC, 0); // NOLINT(*-vararg)
    const int error = copy < 0 || ::close(copy) != 0 ? errno : 0;
    folder.locks().drop(node, info->lock_owner);
    answer(request, error);
}

void release(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* info) {
    folder_of(request).close(info->fh);
    answer(request, 0);
}

void fsync(fuse_req_t request, fuse_ino_t /*node*/, int data_only, fuse_file_info* info) {
    const int file = folder_of(request).file_of(info->fh);
    answer_call(request, file < 0 ? -1 : data_only != 0 ? ::fdatasync(file) : ::fsync(file));
}

void opendir(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
    answer_open(request, folder_of(request).open_folder(node), info);
}

void fsyncdir(fuse_req_t request, fuse_ino_t /*node*/, int data_only, fuse_file_info* info) {
    const OpenFolder* const open = folder_of(request).folder_of(info->fh);
    if (!open)
        return answer(request, EBADF);
    const int fd = ::dirfd(open->stream.get());
    answer_call(request, data_only != 0 ? ::fdatasync(fd) : ::fsync(fd));
}

void statfs(fuse_req_t request, fuse_ino_t node) {
    const auto all = folder_of(request).statistics(node);
    if (!all)
        return answer(request, all.error());
    ::fuse_reply_statfs(request, &*all);
}

void getxattr(fuse_req_t request, fuse_ino_t node, const char* name, size_t size) {
    const auto room = server_of(request).room().first(std::min(size, max_attribute));
    const auto got = folder_of(request).get_attribute(node, name, room);
    if (!got)
        return answer(request, got.error());
    if (size == 0)
        ::fuse_reply_xattr(request, *got);
    else // NOLINTNEXTLINE: the reply is text to libfuse
        ::fuse_reply_buf(request, reinterpret_cast<const char*>(room.data()), *got);
}

void listxattr(fuse_req_t request, fuse_ino_t node, size_t size) {
    const auto room = server_of(request).room().first(std::min(size, max_attribute));
    const auto got = folder_of(request).list_attributes(node, room);
    if (!got)
        return answer(request, got.error());
    if (size == 0)
        ::fuse_reply_xattr(request, *got);
    else // NOLINTNEXTLINE: the reply is text to libfuse
        ::fuse_reply_buf(request, reinterpret_cast<const char*>(room.data()), *got);
}

void removexattr(fuse_req_t request, fuse_ino_t node, const char* name) {
    answer(request, folder_of(request).remove_attribute(node, name));
}

void getlk(fuse_req_t request, fuse_ino_t node, fuse_file_info* info, struct flock* lock) {
    const int error = folder_of(request).get_lock(node, info->lock_owner, *lock);
    if (error != 0)
        return answer(request, error);
    ::fuse_reply_lock(request, lock);
}

void take_lock(fuse_req_t request, Locks::Attempt attempt, bool waits) {
    if (!waits)
        return answer(request, attempt());
    folder_of(request).locks().wait(server_of(request).unique(), std::move(attempt),
                                    [request](int error) { answer(request, error); });
}

void setlk(fuse_req_t request, fuse_ino_t node, fuse_file_info* info, struct flock* lock, int waits) {
    Folder& folder = folder_of(request);
    take_lock(
        request,
        [&folder, node, owner = info->lock_owner, wanted = *lock] { return folder.set_lock(node, owner, wanted); },
        waits != 0);
}

void flock(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* info, int operation) {
    Folder& folder = folder_of(request);
    const bool gives_back = (operation & LOCK_UN) != 0;
    take_lock(
        request,
        [&folder, handle = info->fh, operation] {
            const int file = folder.file_of(handle);
            return file < 0 || ::flock(file, operation | LOCK_NB) != 0 ? errno : 0;
        },
        (operation & LOCK_NB) == 0);
    if (gives_back)
        folder.locks().retry();
}

void fallocate(fuse_req_t request, fuse_ino_t /*node*/, int mode, off_t offset, off_t length, fuse_file_info* info) {
    const int file = folder_of(request).file_of(info->fh);
    answer_call(request, file < 0 ? -1 : ::fallocate(file, mode, offset, length));
}

void lseek(fuse_req_t request, fuse_ino_t /*node*/, off_t offset, int whence, fuse_file_info* info) {
    const int file = folder_of(request).file_of(info->fh);
    const off_t found = file < 0 ? -1 : ::lseek(file, offset, whence);
    if (found < 0)
        return answer(request, errno);
    ::fuse_reply_lseek(request, found);
}

void copy_file_range(fuse_req_t request, fuse_ino_t /*from*/, off_t at, fuse_file_info* source, fuse_ino_t /*to*/,
                     off_t new_at, fuse_file_info* target, size_t size, int flags) {
    Folder& folder = folder_of(request);
    const int from = folder.file_of(source->fh);
    const int to = folder.file_of(target->fh);
    if (from < 0 || to < 0)
        return answer(request, EBADF);
    const ssize_t done =
        ::copy_file_range(from, &at, to, &new_at, std::min(size, max_copy), static_cast<unsigned>(flags));
    if (done < 0)
        return answer(request, errno);
    ::fuse_reply_write(request, static_cast<size_t>(done));
}

// NOLINTEND(bugprone-easily-swappable-parameters)

fuse_lowlevel_ops make_operations() {
    fuse_lowlevel_ops all{};
    all.init = start;
    all.lookup = lookup;
    all.forget = forget;
    all.forget_multi = forget_multi;
    all.getattr = getattr;
    all.setattr = setattr;
    all.readlink = readlink;
    all.mknod = mknod;
    all.mkdir = mkdir;
    all.symlink = symlink;
    all.link = link;
    all.unlink = unlink;
    all.rmdir = rmdir;
    all.rename = rename;
    all.open = open;
    all.create = create;
    all.read = read;
    all.write = write;
    all.flush = flush;
    all.release = release;
    all.fsync = fsync;
    all.opendir = opendir;
    all.readdir = list;
    all.readdirplus = list_with_attributes;
    all.releasedir = release;
    all.fsyncdir = fsyncdir;
    all.statfs = statfs;
    all.getxattr = getxattr;
    all.listxattr = listxattr;
    all.removexattr = removexattr;
    all.getlk = getlk;
    all.setlk = setlk;
    all.flock = flock;
    all.fallocate = fallocate;
    all.lseek = lseek;
    all.copy_file_range = copy_file_range;
    return all;
}

} // namespace

const fuse_lowlevel_ops& operations() {
    static const fuse_lowlevel_ops all = make_operations();
    return all;
}

} // namespace inox::share
