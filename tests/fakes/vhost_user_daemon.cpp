// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/vhost_user_daemon.hpp"

namespace inox::fakes {

VhostUserDaemon::VhostUserDaemon(std::string path, Manner manner) : path_{std::move(path)}, manner_{manner} {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    ::unlink(path_.c_str());
    // NOLINTNEXTLINE: the socket interface casts
    if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 0) != 0)
        throw std::runtime_error{"cannot listen at " + path_};
    if (manner != Manner::not_accepting)
        thread_ = std::jthread{[this](const std::stop_token& stop) { serve(stop); }};
}

VhostUserDaemon::~VhostUserDaemon() {
    thread_ = {}; // asks the thread to stop, and waits for it
    ::unlink(path_.c_str());
}

unsigned VhostUserDaemon::count(std::uint32_t request) {
    std::lock_guard lock{mutex_};
    return requests_[request];
}

int VhostUserDaemon::memory() {
    std::lock_guard lock{mutex_};
    return memory_.get();
}

void VhostUserDaemon::hang_up() {
    const unsigned before = closed_;
    next_ = Act::hang_up;
    while (closed_ == before)
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
}

void VhostUserDaemon::serve(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        pollfd polled{listener_.get(), POLLIN, 0};
        if (::poll(&polled, 1, 5) != 1)
            continue;
        UniqueFd peer{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
        while (!stop.stop_requested() && converse(peer.get(), stop)) {
        }
        peer.reset();
        ++closed_;
    }
}

bool VhostUserDaemon::converse(int peer, const std::stop_token& stop) {
    const auto act = next_.exchange(Act::none);
    if (act == Act::hang_up)
        return false;
    if (act == Act::speak)
        static_cast<void>(::send(peer, "?", 1, MSG_NOSIGNAL));
    pollfd polled{peer, POLLIN, 0};
    if (::poll(&polled, 1, 5) != 1)
        return true;
    Header header{};
    std::array<int, 8> fds{};
    const auto fd_count = receive(peer, header, fds);
    if (!fd_count)
        return false;
    std::vector<std::byte> body(header.size);
    if (!body.empty() && ::recv(peer, body.data(), body.size(), MSG_WAITALL) != static_cast<ssize_t>(body.size()))
        return false;
    take(header.request, {fds.data(), *fd_count});
    return answer(peer, header, body, stop);
}

std::optional<std::size_t> VhostUserDaemon::receive(int peer, Header& header, std::array<int, 8>& fds) {
    iovec piece{&header, sizeof header};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof fds)> control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (::recvmsg(peer, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL) != static_cast<ssize_t>(sizeof header))
        return std::nullopt;
    const cmsghdr* rights = CMSG_FIRSTHDR(&message);
    if (rights == nullptr)
        return 0;
    const std::size_t size = rights->cmsg_len - CMSG_LEN(0);
    std::memcpy(fds.data(), CMSG_DATA(rights), size);
    return size / sizeof(int);
}

void VhostUserDaemon::take(std::uint32_t request, std::span<const int> fds) {
    std::lock_guard lock{mutex_};
    ++requests_[request];
    for (std::size_t i = 0; i < fds.size(); ++i) {
        UniqueFd fd{fds[i]};
        if (request == set_memory && i == 0)
            memory_ = std::move(fd);
    }
}

bool VhostUserDaemon::answer(int peer, const Header& header, std::span<const std::byte> body,
                             const std::stop_token& stop) {
    constexpr std::uint32_t get_features = 1, get_protocol_features = 15;
    const bool acknowledge = (header.flags & 8) != 0;
    std::uint64_t value = 0;
    if (header.request == get_features)
        value = devices::virtio::feature::bit(30) |
                (manner_ == Manner::without_rings
                     ? 0
                     : devices::virtio::feature::indirect | devices::virtio::feature::event_index |
                           devices::virtio::feature::version_1);
    else if (header.request == get_protocol_features)
        value = 1U << 3;
    else if (header.request == stop_ring)
        std::memcpy(&value, body.data(), sizeof value);
    else if (!acknowledge)
        return true;
    else if (manner_ == Manner::refuses)
        value = 1;
    const bool mute = manner_ == Manner::silent || (manner_ == Manner::hangs_at_stop && header.request == stop_ring);
    if (mute)
        return true;
    std::array<std::byte, sizeof header + sizeof value> bytes{};
    const Header reply{header.request + (manner_ == Manner::wrong_answer ? 1 : 0), 1 | 4,
                       manner_ == Manner::short_answer ? 4U : 8U};
    std::memcpy(bytes.data(), &reply, sizeof reply);
    std::memcpy(bytes.data() + sizeof reply, &value, sizeof value);
    std::span<const std::byte> rest = std::span{bytes}.first(sizeof reply + reply.size);
    if (manner_ == Manner::truncates)
        rest = rest.first(rest.size() / 2);
    const std::size_t step = manner_ == Manner::drips ? 1 : rest.size();
    for (; !rest.empty() && !stop.stop_requested(); rest = rest.subspan(step)) {
        if (::send(peer, rest.data(), step, MSG_NOSIGNAL) < 0)
            return false;
        if (manner_ == Manner::drips)
            std::this_thread::sleep_for(std::chrono::milliseconds{100});
    }
    return manner_ != Manner::truncates;
}

} // namespace inox::fakes
