// SPDX-License-Identifier: Apache-2.0
// The control queue (5.1.6.5): a request has a class, a command and data; its answer is one byte.
#include "devices/virtio/net/net.hpp"
#include "devices/virtio/net/uapi.hpp"

namespace inox::devices::virtio {
namespace {

constexpr unsigned batch = 16;

struct Command {
    std::uint8_t kind{};
    std::uint8_t command{};
};

} // namespace

void Net::control(unsigned index) noexcept {
    Queue* ring = queue(index);
    if (!ring)
        return;
    const auto hold = memory().hold();
    if (!ring->refresh())
        return;
    const auto served = serve(*ring, chain_, batch, [&](Chain& chain) {
        const Done done = execute(chain);
        if (done == Done::later)
            return false;
        const std::byte answer{done == Done::yes ? std::uint8_t{VIRTIO_NET_OK} : std::uint8_t{VIRTIO_NET_ERR}};
        if (done == Done::refused)
            note_bad_request("a control command");
        ring->push(chain.head, static_cast<std::uint32_t>(chain.copy_to(0, {&answer, 1})));
        return true;
    });
    signal(index);
    if (served == Served::more)
        again(index);
}

Net::Done Net::execute(const Chain& chain) noexcept {
    Command command;
    if (chain.copy_from(0, std::as_writable_bytes(std::span{&command, 1})) != sizeof command)
        return Done::refused;
    const auto data = [&]<class T>(T& value) {
        return chain.copy_from(sizeof command, std::as_writable_bytes(std::span{&value, 1})) == sizeof value;
    };
    if (command.kind == VIRTIO_NET_CTRL_MQ && command.command == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) {
        std::uint16_t pairs = 0;
        if (!negotiated(net_feature::queue_pairs) || !data(pairs) || pairs < 1 || pairs > pairs_.size())
            return Done::refused;
        return change_port(pairs, offloads_);
    }
    if (command.kind == VIRTIO_NET_CTRL_ANNOUNCE && command.command == VIRTIO_NET_CTRL_ANNOUNCE_ACK) {
        announces_ = false;
        return negotiated(net_feature::announce) ? Done::yes : Done::refused;
    }
    if (command.kind == VIRTIO_NET_CTRL_GUEST_OFFLOADS && command.command == VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) {
        std::uint64_t offloads = 0;
        const std::uint64_t allowed = negotiated_features() & net_feature::offloads;
        if (!negotiated(net_feature::guest_offloads) || !data(offloads) || (offloads & ~allowed) != 0)
            return Done::refused;
        return change_port(active_pairs_, (offloads & net_feature::guest_checksum) != 0 ? offloads : 0);
    }
    return Done::refused;
}

} // namespace inox::devices::virtio
