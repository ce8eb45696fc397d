// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/net_port.hpp"

#include <cstring>

namespace inox::fakes {

void FakePort::State::send(std::string_view frame, devices::virtio::NetHeader header, unsigned pair) {
    std::string bytes(sizeof header + frame.size(), '\0');
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, frame.data(), frame.size());
    (void)!::send(far[pair].get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

std::optional<std::string> FakePort::State::take(unsigned pair) {
    std::string bytes(100'000, '\0');
    const auto got = ::recv(far[pair].get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got <= 0)
        return std::nullopt;
    bytes.resize(static_cast<std::size_t>(got));
    return bytes;
}

void FakePort::State::vanish() {
    missing = true;
    for (auto& end : far)
        ::shutdown(end.get(), SHUT_RDWR);
}

Result<void> FakePort::open(unsigned pairs) {
    close();
    if (state_->missing)
        return fail(Errc::not_found, "no such tap");
    state_->far.clear();
    for (unsigned i = 0; i < pairs; ++i) {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) != 0)
            return fail_errno(Errc::host_error, "socketpair");
        state_->near.emplace_back(ends[0]);
        state_->far.emplace_back(ends[1]);
    }
    state_->active = pairs;
    return {};
}

int FakePort::fd(unsigned pair) const { return pair < state_->near.size() ? state_->near[pair].get() : -1; }

void FakePort::set_offloads(std::uint64_t offloads) noexcept {
    state_->offloads = offloads;
    ++state_->calls;
}

void FakePort::set_active_pairs(unsigned pairs) noexcept {
    state_->active = pairs;
    ++state_->calls;
}

} // namespace inox::fakes
