// SPDX-License-Identifier: Apache-2.0
// Where a network device's frames come from and go to.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "devices/virtio/net/mac_address.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::virtio {

/// A tap, a stream to another process, or a test's socket pair. On the loop's thread. One read or write moves one frame
/// with a NetHeader before it, and never blocks.
class NetPort {
public:
    NetPort() = default;
    NetPort(const NetPort&) = delete;
    NetPort& operator=(const NetPort&) = delete;
    virtual ~NetPort() = default;

    /// For people: "tap 'tap0'".
    [[nodiscard]] virtual const std::string& name() const = 0;
    /// Opens `pairs` queues without offloads, all of them in use. Also after close().
    virtual Result<void> open(unsigned pairs) = 0;
    virtual void close() noexcept = 0;
    /// After open(): waits until frames flow or `patience` is over; the error says why they never will. `mac`: the
    /// device's.
    virtual Result<void> await(const MacAddress& mac, std::chrono::milliseconds patience) {
        (void)mac, (void)patience;
        return {};
    }
    /// What to wait for before the next read or write. -1 while closed.
    [[nodiscard]] virtual int fd(unsigned pair) const = 0;
    /// Bytes, with the header, or -errno: -EAGAIN when there is none; any other error, and 0, as from a tap.
    virtual ssize_t read(unsigned pair, std::span<const iovec> pieces) noexcept;
    /// -EAGAIN: not taken, fd() tells when to try again. -EACCES: a frame that must not leave.
    virtual ssize_t write(unsigned pair, std::span<const iovec> pieces) noexcept;
    /// Whether a read may find a frame although fd() is not readable.
    [[nodiscard]] virtual bool has_more(unsigned pair) const {
        (void)pair;
        return false;
    }
    /// Goes on with a frame that write() took and the other side did not take whole. 0: nothing is left; else errno.
    [[nodiscard]] virtual int flush(unsigned pair) noexcept {
        (void)pair;
        return 0;
    }
    /// Why the other side is gone, once a read or write said so with `error`.
    [[nodiscard]] virtual std::string why_lost(int error);
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
