// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fuse_client.hpp"

#include <cerrno>
#include <poll.h>
#include <sys/socket.h>

namespace inox::tests {

std::vector<std::byte> fuse_message(std::uint32_t opcode, std::uint64_t node, const FuseBody& body,
                                    std::uint64_t unique) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + body.all.size());
    header.opcode = opcode;
    header.unique = unique;
    header.nodeid = node;
    FuseBody message;
    message.add(header);
    message.all.insert(message.all.end(), body.all.begin(), body.all.end());
    return std::move(message.all);
}

std::uint64_t FuseClient::send(std::uint32_t opcode, std::uint64_t node, const FuseBody& body) {
    auto message = fuse_message(opcode, node, body, ++next_);
    std::memcpy(message.data() + offsetof(fuse_in_header, uid), &user, sizeof user);
    std::memcpy(message.data() + offsetof(fuse_in_header, gid), &group, sizeof group);
    send_raw(message);
    return next_;
}

void FuseClient::send_raw(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
}

bool FuseClient::answers(int milliseconds) {
    pollfd readable{socket_.get(), POLLIN, 0};
    return ::poll(&readable, 1, milliseconds) == 1;
}

bool FuseClient::take(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
        if (!answers(10'000))
            return false;
        const auto got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
        if (got <= 0)
            return false;
        bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
    return true;
}

FuseReply FuseClient::receive() {
    fuse_out_header header{};
    if (!take(std::as_writable_bytes(std::span{&header, 1})))
        return {.error = -1};
    FuseReply reply{-header.error, header.unique, std::string(header.len - sizeof header, '\0')};
    return take(std::as_writable_bytes(std::span{reply.body})) ? reply : FuseReply{.error = -1};
}

FuseReply FuseClient::init(std::uint32_t minor) {
    fuse_init_in in{};
    in.major = 7;
    in.minor = minor;
    in.max_readahead = 131072;
    in.flags = FUSE_ASYNC_READ | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_ATOMIC_O_TRUNC | FUSE_AUTO_INVAL_DATA |
               FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_MAX_PAGES | FUSE_INIT_EXT;
    return ask(FUSE_INIT, 0, FuseBody{}.add(in));
}

FuseReply FuseClient::create(std::uint64_t parent, std::string_view name, std::uint32_t flags, std::uint32_t mode) {
    fuse_create_in in{};
    in.flags = flags;
    in.mode = mode;
    return ask(FUSE_CREATE, parent, FuseBody{}.add(in).name(name));
}

FuseReply FuseClient::open(std::uint64_t node, std::uint32_t flags) {
    fuse_open_in in{};
    in.flags = flags;
    return ask(FUSE_OPEN, node, FuseBody{}.add(in));
}

FuseReply FuseClient::read(std::uint64_t node, std::uint64_t handle, std::uint64_t offset, std::uint32_t size) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    return ask(FUSE_READ, node, FuseBody{}.add(in));
}

FuseReply FuseClient::write(std::uint64_t node, std::uint64_t handle, std::uint64_t offset, std::string_view data) {
    fuse_write_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = static_cast<std::uint32_t>(data.size());
    return ask(FUSE_WRITE, node, FuseBody{}.add(in).raw(data));
}

std::vector<std::string> FuseClient::list(std::uint64_t node, std::uint32_t size, bool plus) {
    std::vector<std::string> names;
    const auto handle = ask(FUSE_OPENDIR, node, FuseBody{}.add(fuse_open_in{})).as<fuse_open_out>().fh;
    fuse_read_in in{};
    in.fh = handle;
    in.size = size;
    for (;;) {
        const auto reply = ask(plus ? FUSE_READDIRPLUS : FUSE_READDIR, node, FuseBody{}.add(in));
        if (reply.error != 0 || reply.body.empty())
            break;
        const std::size_t front = plus ? sizeof(fuse_entry_out) : 0;
        for (std::size_t at = 0; at + front + offsetof(fuse_dirent, name) <= reply.body.size();) {
            const auto entry = reply.as<std::array<char, 24>>(at + front);
            fuse_dirent head{};
            std::memcpy(static_cast<void*>(&head), entry.data(), entry.size());
            names.push_back(reply.body.substr(at + front + entry.size(), head.namelen));
            in.offset = head.off;
            at += front + FUSE_DIRENT_ALIGN(entry.size() + head.namelen);
        }
    }
    fuse_release_in release{};
    release.fh = handle;
    ask(FUSE_RELEASEDIR, node, FuseBody{}.add(release));
    return names;
}

} // namespace inox::tests
