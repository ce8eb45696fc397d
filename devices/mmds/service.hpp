// SPDX-License-Identifier: Apache-2.0
// The metadata service on one network interface: what the guest sends to its address does not reach the network.
//
//   virtio-net -> Service (clock and timers) -> Stack (frames) -> TcpConnection -> Responder (HTTP) -> MetadataSource
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "devices/mmds/stack.hpp"
#include "devices/virtio/net/port.hpp"
#include "vmm/base/event_loop.hpp"

namespace inox::devices::mmds {

struct ServiceOptions {
    Ipv4 address{0xa9fea9fe}; ///< 169.254.169.254
    Responder::Options http{};
};

/// On the loop's thread. Drop it there, too.
class Service final : public virtio::NetFilter {
public:
    /// `source` and `loop` must outlive it.
    static Result<std::shared_ptr<Service>> create(const MetadataSource& source, EventLoop& loop,
                                                   const ServiceOptions& options);

    void connect(std::function<void()> ready) override { ready_ = std::move(ready); }
    bool wants(std::span<const std::byte> head) noexcept override { return stack_.wants(head); }
    void take(std::span<const std::byte> frame) noexcept override;
    std::size_t next(std::span<std::byte> frame) noexcept override;

private:
    Service(EventLoop& loop, Stack stack) : loop_{loop}, stack_{std::move(stack)} {}
    void arm();

    EventLoop& loop_;
    Stack stack_;
    std::function<void()> ready_{};
    std::optional<Stack::Time> armed_{}; ///< when timer_ fires
    Registration timer_{};
};

} // namespace inox::devices::mmds
