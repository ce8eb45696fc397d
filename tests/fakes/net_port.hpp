// SPDX-License-Identifier: Apache-2.0
// A network device's port whose other end is in the test's hands.
#pragma once

#include <sys/socket.h>

#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio/net/header.hpp"
#include "devices/virtio/net/port.hpp"

namespace inox::fakes {

class FakePort final : public devices::virtio::NetPort {
public:
    /// What the test looks at and changes, also after the device took the port.
    struct State {
        std::vector<UniqueFd> near{};
        std::vector<UniqueFd> far{};
        std::uint64_t capabilities{devices::virtio::net_feature::checksum | devices::virtio::net_feature::host_tso4 |
                                   devices::virtio::net_feature::host_tso6 | devices::virtio::net_feature::offloads};
        std::uint64_t offloads{};
        unsigned active{};
        unsigned calls{}; ///< that changed it
        std::uint16_t mtu{1500};
        bool missing{false};

        /// A frame from the network, with the header the host gives it.
        void send(std::string_view frame, devices::virtio::NetHeader header = {}, unsigned pair = 0) {
            std::string bytes(sizeof header + frame.size(), '\0');
            std::memcpy(bytes.data(), &header, sizeof header);
            std::memcpy(bytes.data() + sizeof header, frame.data(), frame.size());
            (void)!::send(far[pair].get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        }
        /// The next frame the guest sent, header and all.
        std::optional<std::string> take(unsigned pair = 0) {
            std::string bytes(100'000, '\0');
            const auto got = ::recv(far[pair].get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
            if (got <= 0)
                return std::nullopt;
            bytes.resize(static_cast<std::size_t>(got));
            return bytes;
        }
        /// As if the interface were deleted.
        void vanish() {
            missing = true;
            for (auto& end : far)
                ::shutdown(end.get(), SHUT_RDWR);
        }
    };

    explicit FakePort(std::shared_ptr<State> state) : state_{std::move(state)} {}
    [[nodiscard]] const std::string& name() const override { return name_; }
    Result<void> open(unsigned pairs) override {
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
    void close() noexcept override { state_->near.clear(); }
    [[nodiscard]] int fd(unsigned pair) const override {
        return pair < state_->near.size() ? state_->near[pair].get() : -1;
    }
    [[nodiscard]] std::uint64_t capabilities() const override { return state_->capabilities; }
    void set_offloads(std::uint64_t offloads) noexcept override {
        state_->offloads = offloads;
        ++state_->calls;
    }
    void set_active_pairs(unsigned pairs) noexcept override {
        state_->active = pairs;
        ++state_->calls;
    }
    [[nodiscard]] std::uint16_t mtu() const override { return state_->mtu; }

private:
    std::shared_ptr<State> state_;
    std::string name_{"fake0"};
};

} // namespace inox::fakes
