// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/listing.hpp"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <string_view>

#include "vmm/share/server.hpp"

namespace inox::share {
namespace {

Server& server_of(fuse_req_t request) { return *static_cast<Server*>(::fuse_req_userdata(request)); }

/// Adds an entry to the reply; returns its size, which is more than `room` when it does not fit.
size_t put_entry(fuse_req_t request, std::span<std::byte> room, const dirent& one) {
    struct stat status {};
    status.st_ino = one.d_ino;
    status.st_mode = static_cast<mode_t>(one.d_type) << 12;
    // NOLINTNEXTLINE: the reply is text to libfuse
    return ::fuse_add_direntry(request, reinterpret_cast<char*>(room.data()), room.size(), one.d_name, &status,
                               one.d_off);
}

/// The same with what a look-up would tell. An entry that cannot be looked up is told without.
size_t put_entry_plus(fuse_req_t request, fuse_ino_t node, std::span<std::byte> room, const dirent& one) {
    auto& folder = server_of(request).folder();
    const std::string_view name{one.d_name};
    const auto found = name == "." || name == ".." ? Or<Entry>{std::unexpected{0}} : folder.lookup(node, one.d_name);
    fuse_entry_param entry{};
    if (found) {
        entry = entry_of(*found);
    } else {
        entry.attr.st_ino = one.d_ino;
        entry.attr.st_mode = static_cast<mode_t>(one.d_type) << 12;
    }
    // NOLINTNEXTLINE: the reply is text to libfuse
    auto* const text = reinterpret_cast<char*>(room.data());
    const size_t size = ::fuse_add_direntry_plus(request, text, room.size(), one.d_name, &entry, one.d_off);
    if (found && size > room.size())
        folder.forget(found->node, 1);
    return size;
}

template <class Put>
void put_all(fuse_req_t request, size_t size, off_t offset, const fuse_file_info* info, Put&& put) {
    OpenFolder* const open = server_of(request).folder().folder_of(info->fh);
    if (!open)
        return static_cast<void>(::fuse_reply_err(request, EBADF));
    if (open->offset != offset) {
        ::seekdir(open->stream.get(), offset);
        open->offset = offset;
    }
    const auto room = server_of(request).room();
    const std::size_t most = std::min(size, room.size());
    std::size_t filled = 0;
    int error = 0;
    for (;;) {
        errno = 0;
        const dirent* const one = ::readdir(open->stream.get());
        if (!one) {
            error = errno;
            break;
        }
        const std::size_t bytes = put(room.subspan(filled, most - filled), *one);
        if (bytes > most - filled) { // for the next request
            ::seekdir(open->stream.get(), open->offset);
            break;
        }
        filled += bytes;
        open->offset = one->d_off;
    }
    if (error != 0 && filled == 0)
        return static_cast<void>(::fuse_reply_err(request, error));
    // NOLINTNEXTLINE: the reply is text to libfuse
    ::fuse_reply_buf(request, reinterpret_cast<const char*>(room.data()), filled);
}

} // namespace

void list(fuse_req_t request, fuse_ino_t /*node*/, size_t size, off_t offset, fuse_file_info* info) {
    put_all(request, size, offset, info,
            [&](std::span<std::byte> room, const dirent& one) { return put_entry(request, room, one); });
}

void list_with_attributes(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* info) {
    put_all(request, size, offset, info,
            [&](std::span<std::byte> room, const dirent& one) { return put_entry_plus(request, node, room, one); });
}

} // namespace inox::share
