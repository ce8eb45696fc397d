// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/stream_port.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "vmm/base/outside/outside.hpp"

namespace inox::devices::virtio {
namespace {

constexpr std::size_t header_size = sizeof(NetHeader);

/// As if the pieces were one buffer; as much as there is room for.
void scatter(std::span<const iovec> pieces, std::span<const std::byte> bytes) {
    for (const auto& piece : pieces) {
        const auto part = std::min(piece.iov_len, bytes.size());
        std::memcpy(piece.iov_base, bytes.data(), part);
        bytes = bytes.subspan(part);
        if (bytes.empty())
            return;
    }
}

std::size_t total(std::span<const iovec> pieces) {
    std::size_t bytes = 0;
    for (const auto& piece : pieces)
        bytes += piece.iov_len;
    return bytes;
}

} // namespace

std::string StreamPeer::why_lost(int error) {
    return error == ENODEV ? "it closed the connection" : std::strerror(error);
}

Result<UniqueFd> SocketPeer::connect() {
    if (path_.size() >= sizeof(sockaddr_un::sun_path))
        return fail(Errc::config_value, "'" + path_ + "' is too long for the path of a socket");
    UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket || !outside::connect(socket.get(), path_))
        return unreachable();
    return socket;
}

Result<void> SocketPeer::check() const {
    struct stat found {};
    const bool exists = ::stat(path_.c_str(), &found) == 0;
    if (exists && S_ISSOCK(found.st_mode))
        return {};
    if (exists)
        errno = ECONNREFUSED; // as connect(2) says of a file
    return unreachable();
}

std::unexpected<Error> SocketPeer::unreachable() const {
    return fail_errno(Errc::host_error, "cannot connect to " + name_,
                      "start it first: it listens on a unix stream socket, for example passt --socket PATH");
}

Result<void> StreamPort::open(unsigned pairs) {
    close();
    if (pairs != 1)
        return fail(Errc::config_value, "an interface without a tap has one pair of queues");
    socket_ = TRY(peer_->connect());
    if (!buffer_)
        buffer_ = std::make_unique_for_overwrite<std::byte[]>(buffer_size); // NOLINT
    return {};
}

void StreamPort::close() noexcept {
    if (socket_)
        ::shutdown(socket_.get(), SHUT_RDWR); // also of duplicates, by which a loop still watches it
    socket_.reset();
    begin_ = end_ = 0;
    unsent_.clear();
    unsent_from_ = 0;
    peer_->disconnect();
}

std::optional<std::uint32_t> StreamPort::next_length() const {
    if (unread().size() < prefix)
        return std::nullopt;
    std::uint32_t length = 0;
    std::memcpy(&length, unread().data(), prefix);
    return ntohl(length);
}

bool StreamPort::malformed() const { return next_length().value_or(0) > max_frame; }

std::optional<std::span<const std::byte>> StreamPort::next_frame() const {
    const auto length = next_length();
    if (!length || *length > max_frame || unread().size() - prefix < *length)
        return std::nullopt;
    return unread().subspan(prefix, *length);
}

/// One call of the host. What is left of a frame moves to the front only when the rest of it has no room behind it.
ssize_t StreamPort::fill() noexcept {
    if (begin_ == end_)
        begin_ = end_ = 0;
    if (buffer_size - begin_ < prefix + max_frame) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
        end_ -= std::exchange(begin_, 0);
    }
    const ssize_t got = ::recv(socket_.get(), buffer_.get() + end_, buffer_size - end_, MSG_DONTWAIT);
    if (got > 0)
        end_ += static_cast<std::size_t>(got);
    return got < 0 ? -errno : got;
}

ssize_t StreamPort::read(unsigned /*pair*/, std::span<const iovec> pieces) noexcept {
    if (!next_frame() && !malformed())
        if (const ssize_t got = fill(); got <= 0)
            return got;
    if (malformed())
        return -EPROTO;
    const auto frame = next_frame();
    if (!frame)
        return -EAGAIN;
    // Long enough for no header is a frame that the caller drops.
    const NetHeader header{};
    std::array<std::byte, header_size> start{};
    std::memcpy(start.data(), &header, header_size);
    scatter(pieces.first(1), start);
    scatter(pieces.subspan(1), *frame);
    begin_ += prefix + frame->size();
    return static_cast<ssize_t>(header_size + frame->size());
}

ssize_t StreamPort::write(unsigned pair, std::span<const iovec> pieces) noexcept {
    if (const int error = flush(pair); error != 0)
        return -error;
    const std::size_t frame = total(pieces.subspan(1));
    if (frame > max_frame)
        return -EINVAL;
    // The head is copied once, checked, and sent as it was checked: the rest is the guest's, who may change it.
    const std::size_t head = std::min(frame, head_size);
    const std::uint32_t length = htonl(static_cast<std::uint32_t>(frame));
    std::memcpy(head_.data(), &length, prefix);
    pieces_.assign(1, {head_.data(), prefix + head});
    std::size_t copied = 0;
    for (const auto& piece : pieces.subspan(1)) {
        const auto part = std::min(piece.iov_len, head - copied);
        std::memcpy(head_.data() + prefix + copied, piece.iov_base, part);
        copied += part;
        if (piece.iov_len > part)
            pieces_.push_back({static_cast<std::byte*>(piece.iov_base) + part, piece.iov_len - part});
    }
    if (!peer_->takes(std::span{head_}.subspan(prefix, head)))
        return -EACCES;
    msghdr message{};
    message.msg_iov = pieces_.data();
    message.msg_iovlen = pieces_.size();
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return -errno;
    if (static_cast<std::size_t>(sent) < prefix + frame)
        keep_unsent(pieces_, static_cast<std::size_t>(sent));
    return static_cast<ssize_t>(header_size + frame);
}

void StreamPort::keep_unsent(std::span<const iovec> pieces, std::size_t sent) noexcept {
    for (const auto& piece : pieces) {
        const auto* bytes = static_cast<const std::byte*>(piece.iov_base);
        const auto skipped = std::min(piece.iov_len, sent);
        unsent_.insert(unsent_.end(), bytes + skipped, bytes + piece.iov_len);
        sent -= skipped;
    }
}

int StreamPort::flush(unsigned /*pair*/) noexcept {
    if (unsent_.empty())
        return 0;
    const ssize_t sent = ::send(socket_.get(), unsent_.data() + unsent_from_, unsent_.size() - unsent_from_,
                                MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return errno;
    unsent_from_ += static_cast<std::size_t>(sent);
    if (unsent_from_ < unsent_.size())
        return EAGAIN;
    unsent_.clear();
    unsent_from_ = 0;
    return 0;
}

std::string StreamPort::why_lost(int error) {
    return error == EPROTO ? "it sent a length that no frame has" : peer_->why_lost(error);
}

} // namespace inox::devices::virtio
