// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/move/channel.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox::move {
namespace {

struct Head {
    Le32 magic{};
    Le32 type{};
    Le64 size{};
};
static_assert(sizeof(Head) == 16);

std::unexpected<Error> broken() {
    return fail(Errc::host_error, "the stream of the move has ended", "the other side says why");
}

} // namespace

std::unexpected<Error> invalid(const char* what) {
    return fail(Errc::snapshot_invalid, std::string{"the stream of the move "} + what,
                "is the other side inox of this version?");
}

Result<void> Channel::wait_for(short events, Time wait) const {
    pollfd one{stream_.get(), events, 0};
    const auto end = std::chrono::steady_clock::now() + wait;
    for (;;) {
        const auto left = std::chrono::ceil<Time>(end - std::chrono::steady_clock::now());
        const int ready = ::poll(&one, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (ready > 0)
            return {};
        if (ready < 0 && errno != EINTR)
            return fail_errno(Errc::host_error, "waiting for the stream of the move");
        if (ready == 0)
            return fail(Errc::timed_out, "the other side of the move does not go on",
                        "its connection, or its host, is slow or gone");
    }
}

Result<void> Channel::send(Type type, std::span<const std::byte> first, std::span<const std::byte> second) {
    Head head;
    head.magic = magic;
    head.type = static_cast<std::uint32_t>(type);
    head.size = first.size() + second.size();
    const auto bytes_of = [](std::span<const std::byte> bytes) {
        return iovec{const_cast<std::byte*>(bytes.data()), bytes.size()}; // NOLINT: it is only read
    };
    std::array pieces{bytes_of(std::as_bytes(std::span{&head, 1})), bytes_of(first), bytes_of(second)};
    std::size_t at = 0;
    while (at < pieces.size()) {
        msghdr message{};
        message.msg_iov = &pieces[at];
        message.msg_iovlen = pieces.size() - at;
        const auto sent = ::sendmsg(stream_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            TRY_VOID(wait_for(POLLOUT, patience));
            continue;
        }
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return broken();
        auto left = static_cast<std::size_t>(sent);
        while (at < pieces.size() && left >= pieces[at].iov_len)
            left -= pieces[at++].iov_len;
        if (at < pieces.size())
            pieces[at] = {static_cast<std::byte*>(pieces[at].iov_base) + left, pieces[at].iov_len - left};
    }
    return {};
}

Result<void> Channel::take(std::span<std::byte> to, Time wait) {
    while (!to.empty()) {
        iovec piece{to.data(), to.size()};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        const auto got = ::recvmsg(stream_.get(), &message, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) {
            TRY_VOID(wait_for(POLLIN, wait));
            continue;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return broken();
        to = to.subspan(static_cast<std::size_t>(got));
    }
    return {};
}

Result<Message> Channel::receive(Time wait) {
    Head head;
    TRY_VOID(take(std::as_writable_bytes(std::span{&head, 1}), wait));
    if (head.magic != magic || head.type < static_cast<std::uint32_t>(Type::hello) ||
        head.type > static_cast<std::uint32_t>(Type::refused))
        return invalid("has something that is no message");
    return Message{static_cast<Type>(std::uint32_t{head.type}), head.size};
}

Result<std::vector<std::byte>> Channel::take_all(const Message& message, std::size_t most) {
    if (message.size > most)
        return invalid("has a message that is too long");
    std::vector<std::byte> bytes(message.size);
    TRY_VOID(take(bytes));
    return bytes;
}

Result<void> Channel::expect(Type type, Time wait) {
    const auto message = TRY(receive(wait));
    if (message.type == Type::refused) {
        const auto bytes = TRY(take_all(message, most_text));
        std::string text{reinterpret_cast<const char*>(bytes.data()), bytes.size()}; // NOLINT
        std::ranges::replace_if(
            text, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }, '?');
        return fail(Errc::wrong_state, "the other side refuses the guest: " + text, "see what it says there");
    }
    if (message.type != type || message.size != 0)
        return invalid("has a message that is not the next one");
    return {};
}

bool Channel::connect(const std::string& path) { return outside::connect(stream_.get(), path); }

void Channel::stop() const noexcept { ::shutdown(stream_.get(), SHUT_RDWR); }

} // namespace inox::move
