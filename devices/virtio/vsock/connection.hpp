// SPDX-License-Identifier: Apache-2.0
// One stream: the flow towards the guest, and a unix socket towards a host program.
#pragma once

#include <sys/uio.h>

#include <list>
#include <span>
#include <vector>

#include "devices/virtio/vsock/byte_queue.hpp"
#include "devices/virtio/vsock/flow.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::virtio {

/// On the device's lock. Watches and timers only: who handles them is the device.
struct VsockConnection {
    VsockConnection(std::uint64_t serial, VsockPorts between, VsockFlow::Origin origin, std::uint32_t buffer,
                    UniqueFd to_host)
        : id{serial}, ports{between}, flow{origin, buffer}, socket{std::move(to_host)} {}

    /// Gives the host program `bytes` from `pieces`; what its socket does not take now waits. False when the program
    /// does not read any more; the bytes are dropped then.
    bool write(std::span<const iovec> pieces, std::uint32_t bytes);
    /// Gives it more of what waits. False as above.
    bool flush();

    std::uint64_t id; ///< never used twice
    VsockPorts ports;
    VsockFlow flow;
    UniqueFd socket;            ///< empty once the host program is gone
    ByteQueue backlog{};        ///< at most the flow's buffer size
    bool guest_sent_all{false}; ///< end the host's stream once the backlog is empty
    bool wants_read{false};     ///< the socket may have data for the guest
    UniqueFd dial{};            ///< the socket is being connected: outside::connected(dial) will tell
    Registration dialled{};     ///< watches that
    Registration readable{};
    Registration writable{};
    Registration deadline{};

    // Its place in the list of those that have something for the guest.
    std::list<VsockConnection*> node{this};
    bool queued{false};
};

} // namespace inox::devices::virtio
