// SPDX-License-Identifier: Apache-2.0
// Where a network device's frames come from and go to.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "vmm/base/os.hpp"

namespace inox::devices::virtio {

/// A tap, or a test's socket pair. On the loop's thread. One read or write on fd() moves one frame with a NetHeader
/// before it, and never blocks.
class NetPort {
public:
    NetPort() = default;
    NetPort(const NetPort&) = delete;
    NetPort& operator=(const NetPort&) = delete;
    virtual ~NetPort() = default;

    /// For people.
    [[nodiscard]] virtual const std::string& name() const = 0;
    /// Opens `pairs` queues without offloads, all of them in use. Also after close().
    virtual Result<void> open(unsigned pairs) = 0;
    virtual void close() noexcept = 0;
    /// -1 while closed.
    [[nodiscard]] virtual int fd(unsigned pair) const = 0;
    /// The offloads it is capable of, as net_feature bits of both directions. Known once it was open.
    [[nodiscard]] virtual std::uint64_t capabilities() const = 0;
    /// The net_feature::offloads that frames from it may use from now on.
    virtual void set_offloads(std::uint64_t offloads) noexcept = 0;
    /// Frames are spread over this many pairs from now on.
    virtual void set_active_pairs(unsigned pairs) noexcept = 0;
    /// 0 when unknown.
    [[nodiscard]] virtual std::uint16_t mtu() const = 0;
};

/// A service inside the VMM that talks Ethernet with the guest. On the loop's thread.
class NetFilter {
public:
    NetFilter() = default;
    NetFilter(const NetFilter&) = delete;
    NetFilter& operator=(const NetFilter&) = delete;
    virtual ~NetFilter() = default;

    static constexpr std::size_t head_size = 64;
    /// Called when a device takes the filter: `ready` makes that device ask next(), at any time later.
    virtual void connect(std::function<void()> ready) { (void)ready; }
    /// Whether a frame that the guest sent is for it and not for the network. `head`: the first head_size bytes, fewer
    /// for a short frame. Checksums may be left for the device to fill in.
    virtual bool wants(std::span<const std::byte> head) noexcept = 0;
    virtual void take(std::span<const std::byte> frame) noexcept = 0;
    /// The next frame for the guest, into `frame` (max_frame bytes); 0 when there is none.
    virtual std::size_t next(std::span<std::byte> frame) noexcept = 0;
};

} // namespace inox::devices::virtio
