// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/server.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <vector>

#include "vmm/share/libfuse.hpp"
#include "vmm/share/operations.hpp"

namespace inox::share {
namespace {

fuse_in_header header_of(std::span<const std::byte> message) {
    fuse_in_header header{};
    std::memcpy(&header, message.data(), sizeof header);
    return header;
}

/// The oldest protocol that a guest with virtio-fs speaks (Linux 5.4).
constexpr std::uint32_t oldest_minor = 31;

bool speaks(std::span<const std::byte> arguments) {
    fuse_init_in init{};
    std::memcpy(&init, arguments.data(), offsetof(fuse_init_in, max_readahead));
    return init.major == 7 && init.minor >= oldest_minor;
}

} // namespace

Server::Server(UniqueFd socket, Folder folder) : socket_{std::move(socket)}, folder_{std::move(folder)} {
    ::fuse_set_log_func([](fuse_log_level, const char*, va_list) {}); // the guest decides how much there would be
}

Server::~Server() { end_session(); }

bool Server::run() {
    while (receive() == Received::message && !broken_) {
        serve(input().first(length_));
        filled_ -= length_;
        std::memmove(input().data(), input().data() + length_, filled_);
        length_ = 0;
    }
    ::shutdown(socket_.get(), SHUT_RDWR); // of what is left nothing will be served
    return filled_ == 0 && !broken_;
}

/// Reads until a whole message is at the front, and lets waiting locks try meanwhile.
Server::Received Server::receive() {
    for (;;) {
        if (length_ == 0 && filled_ >= sizeof(fuse_in_header)) {
            length_ = header_of(input()).len;
            if (length_ < sizeof(fuse_in_header) || length_ > max_message)
                return Received::end;
        }
        if (length_ != 0 && filled_ >= length_)
            return Received::message;
        if (folder_.locks().waiting()) {
            pollfd readable{socket_.get(), POLLIN, 0};
            if (::poll(&readable, 1, static_cast<int>(Locks::pause.count())) == 0) {
                folder_.locks().retry();
                continue;
            }
        }
        const ssize_t got = ::recv(socket_.get(), input().data() + filled_, max_message - filled_, 0);
        if (got == 0 || (got < 0 && errno != EINTR))
            return Received::end;
        filled_ += got > 0 ? static_cast<std::size_t>(got) : 0;
    }
}

void Server::serve(std::span<std::byte> message) {
    const auto header = header_of(message);
    const auto arguments = std::span<const std::byte>{message}.subspan(sizeof header);
    unique_ = header.unique;
    const Shape shape = shape_of(message);
    if (shape != Shape::good) {
        if (!is_unanswered(header.opcode))
            reply(header.unique, shape == Shape::unknown ? ENOSYS : EINVAL);
        return;
    }
    switch (header.opcode) {
    case FUSE_INIT: // also of a guest that starts again
        end_session();
        if (!speaks(arguments))
            return reply(header.unique, EPROTO);
        start_session();
        return pass_on(message);
    case FUSE_DESTROY:
        end_session();
        return reply(header.unique, 0);
    case FUSE_INTERRUPT: {
        fuse_interrupt_in interrupt{};
        std::memcpy(&interrupt, arguments.data(), sizeof interrupt);
        return folder_.locks().interrupt(interrupt.unique);
    }
    case FUSE_SETXATTR:
        return reply(header.unique, session_ ? set_attribute(header, arguments) : EIO);
    default:
        return pass_on(message);
    }
}

void Server::pass_on(std::span<std::byte> message) {
    if (!session_) {
        const auto header = header_of(message);
        if (!is_unanswered(header.opcode))
            reply(header.unique, EIO);
        return;
    }
    fuse_buf buffer{};
    buffer.size = message.size();
    buffer.mem = message.data();
    ::fuse_session_process_buf(session_, &buffer);
}

void Server::start_session() {
    char name[] = "inox";
    char* words[] = {name, nullptr};
    fuse_args arguments{1, words, 0};
    const auto& all = operations();
    session_ = ::fuse_session_new(&arguments, &all, sizeof all, this);
    ::fuse_opt_free_args(&arguments); // it has put words of its own there
    fuse_custom_io io{};
    io.writev = write_reply;
    io.read = [](int, void*, size_t, void*) -> ssize_t { return -1; }; // messages are handed over
    // The session closes the descriptor it is given.
    if (session_ && ::fuse_session_custom_io(session_, &io, ::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0)) != 0)
        end_session();
}

void Server::end_session() {
    muted_ = true;
    folder_.forget_all();
    if (session_)
        ::fuse_session_destroy(session_);
    session_ = nullptr;
    muted_ = false;
}

int Server::set_attribute(const fuse_in_header& header, std::span<const std::byte> arguments) {
    fuse_setxattr_in in{};
    std::memcpy(&in, arguments.data(), FUSE_COMPAT_SETXATTR_IN_SIZE);
    const auto rest = arguments.subspan(FUSE_COMPAT_SETXATTR_IN_SIZE);
    const auto* const name = reinterpret_cast<const char*>(rest.data()); // NOLINT: its end was looked for
    const auto value = rest.subspan(std::strlen(name) + 1);
    const auto done = folder_.set_attribute(header.nodeid, name, value, static_cast<int>(in.flags));
    return done ? 0 : done.error();
}

void Server::reply(std::uint64_t unique, int error) {
    fuse_out_header header{sizeof header, -error, unique};
    iovec piece{&header, sizeof header};
    send({&piece, 1});
}

ssize_t Server::write_reply(int /*fd*/, iovec* pieces, int count, void* server) {
    auto& self = *static_cast<Server*>(server);
    const std::span all{pieces, static_cast<std::size_t>(count)};
    ssize_t size = 0;
    for (const iovec& piece : all)
        size += static_cast<ssize_t>(piece.iov_len);
    if (!self.muted_)
        self.send(all);
    return size;
}

void Server::send(std::span<iovec> pieces) {
    std::vector<iovec> left{pieces.begin(), pieces.end()};
    for (auto at = left.begin(); at != left.end() && !broken_;) {
        msghdr message{};
        message.msg_iov = &*at;
        message.msg_iovlen = static_cast<std::size_t>(left.end() - at);
        const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
        broken_ = sent < 0 && errno != EINTR;
        auto bytes = static_cast<std::size_t>(std::max<ssize_t>(sent, 0));
        for (; at != left.end() && bytes >= at->iov_len; ++at)
            bytes -= at->iov_len;
        if (bytes != 0) {
            at->iov_base = static_cast<std::byte*>(at->iov_base) + bytes;
            at->iov_len -= bytes;
        }
    }
}

} // namespace inox::share

// Character devices in user space are a part of libfuse that nothing here reaches: shape_of() refuses CUSE_INIT. With
// this in its place a static link leaves that part out, and with it libfuse's file systems and their dlopen(3).
extern "C" void cuse_lowlevel_init(fuse_req_t request, fuse_ino_t /*node*/, const void* /*arguments*/) {
    ::fuse_reply_err(request, ENOSYS);
}
