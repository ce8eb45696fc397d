// SPDX-License-Identifier: Apache-2.0
// The other side of a network device's stream, in the test's hands.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "devices/virtio/net/loopback.hpp"
#include "devices/virtio/net/stream_port.hpp"

namespace inox::fakes {

class FakeStreamPeer final : public devices::virtio::StreamPeer {
public:
    struct State {
        UniqueFd far{};
        unsigned connects{0};
        bool missing{false};
        int send_buffer{0};  ///< of the device's end; 0: the host's default
        std::string taken{}; ///< bytes received and not yet given out as frames

        static std::string prefixed(std::string_view frame) {
            const auto length = static_cast<std::uint32_t>(frame.size());
            std::string out;
            for (const unsigned shift : {24U, 16U, 8U, 0U})
                out += static_cast<char>(length >> shift);
            return out += frame;
        }
        void send_bytes(std::string_view bytes) const {
            (void)!::send(far.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        }
        void send(std::string_view frame) const { send_bytes(prefixed(frame)); }
        /// Reads at most `most` bytes. False: there are none.
        bool receive(std::size_t most = 1 << 20) {
            std::string bytes(most, '\0');
            const auto got = ::recv(far.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
            taken.append(bytes, 0, got > 0 ? static_cast<std::size_t>(got) : 0);
            return got > 0;
        }
        /// The next whole frame of what was received.
        std::optional<std::string> next() {
            if (taken.size() < 4)
                return std::nullopt;
            std::size_t length = 0;
            for (std::size_t i = 0; i < 4; ++i)
                length = length << 8 | static_cast<unsigned char>(taken[i]);
            if (taken.size() < 4 + length)
                return std::nullopt;
            auto frame = taken.substr(4, length);
            taken.erase(0, 4 + length);
            return frame;
        }
    };

    explicit FakeStreamPeer(std::shared_ptr<State> state) : state_{std::move(state)} {}
    [[nodiscard]] const std::string& name() const override { return name_; }
    Result<UniqueFd> connect() override {
        if (state_->missing)
            return fail(Errc::host_error, "nobody listens");
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
            return fail_errno(Errc::host_error, "socketpair");
        ++state_->connects;
        state_->taken.clear();
        state_->far.reset(ends[1]);
        UniqueFd near{ends[0]};
        if (state_->send_buffer != 0)
            ::setsockopt(near.get(), SOL_SOCKET, SO_SNDBUF, &state_->send_buffer, sizeof state_->send_buffer);
        return near;
    }
    [[nodiscard]] bool takes(std::span<const std::byte> head) const override {
        return !devices::virtio::names_loopback(head);
    }

private:
    std::shared_ptr<State> state_;
    std::string name_{"the fake peer"};
};

} // namespace inox::fakes
