// SPDX-License-Identifier: Apache-2.0
// A guest's network driver around one network device with a FakePort.
#pragma once

#include "devices/virtio/net/net.hpp"
#include "tests/fakes/net_port.hpp"
#include "tests/fakes/virtio_driver.hpp"

namespace inox::fakes {

/// What most drivers agree to.
inline constexpr std::uint64_t offers =
    devices::virtio::net_feature::checksum | devices::virtio::net_feature::host_tso4 |
    devices::virtio::net_feature::host_tso6 | devices::virtio::net_feature::mergeable |
    devices::virtio::net_feature::status | devices::virtio::net_feature::control;

inline std::string frame(std::size_t size, char fill = 'x') { return std::string(size, fill); }

struct NetGuest {
    EventLoop loop{};
    std::shared_ptr<FakePort::State> port = std::make_shared<FakePort::State>();
    VirtioDriver driver{};
    std::shared_ptr<devices::virtio::Net> net{};

    explicit NetGuest(devices::virtio::NetOptions options = {},
                      std::shared_ptr<devices::virtio::NetFilter> filter = {});
    ~NetGuest() { net->reset(); }
    void start(std::uint64_t features, std::vector<std::uint16_t> sizes = {});
    /// A receive buffer; returns its address.
    std::uint64_t give(std::uint32_t size, unsigned pair = 0);
    bool nothing_received();
    std::optional<VirtqueueDriver::Used> received(unsigned pair = 0);
    void send(std::string_view bytes, devices::virtio::NetHeader header = {}, unsigned pair = 0);
    std::uint8_t command(std::uint8_t kind, std::uint8_t number, auto data, unsigned queue) {
        struct Head {
            std::uint8_t kind, number;
        };
        const auto pieces = driver[queue].chain().readable(Head{kind, number}).readable(data).writable(1).post();
        net->kick(queue);
        if (driver[queue].used()->length != 1)
            throw std::logic_error{"an answer is one byte long"};
        return driver.ram.get<std::uint8_t>(pieces.back().address);
    }
    devices::virtio::NetHeader header_at(std::uint64_t address);
};

} // namespace inox::fakes
