// SPDX-License-Identifier: Apache-2.0
// A network device's port whose other end is in the test's hands.
#pragma once

#include <sys/socket.h>

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
        void send(std::string_view frame, devices::virtio::NetHeader header = {}, unsigned pair = 0);
        /// The next frame the guest sent, header and all.
        std::optional<std::string> take(unsigned pair = 0);
        /// As if the interface were deleted.
        void vanish();
    };

    explicit FakePort(std::shared_ptr<State> state) : state_{std::move(state)} {}
    [[nodiscard]] const std::string& name() const override { return name_; }
    Result<void> open(unsigned pairs) override;
    void close() noexcept override { state_->near.clear(); }
    [[nodiscard]] int fd(unsigned pair) const override;
    [[nodiscard]] std::uint64_t capabilities() const override { return state_->capabilities; }
    void set_offloads(std::uint64_t offloads) noexcept override;
    void set_active_pairs(unsigned pairs) noexcept override;
    [[nodiscard]] std::uint16_t mtu() const override { return state_->mtu; }

private:
    std::shared_ptr<State> state_;
    std::string name_{"fake0"};
};

} // namespace inox::fakes
