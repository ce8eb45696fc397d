// SPDX-License-Identifier: Apache-2.0
// What is asked of a network interface.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "devices/rate_limiter.hpp"
#include "devices/virtio/net/mac_address.hpp"
#include "devices/virtio/net/port_forward.hpp"

namespace inox::devices::virtio {

struct NetOptions {
    static constexpr unsigned max_pairs = 16;
    static constexpr std::size_t max_forwards = 64;

    std::string id{"net0"};              ///< for people
    std::string tap{};                   ///< interface name; or:
    bool user{false};                    ///< the network of the user who runs inox, through passt; or:
    std::string socket{};                ///< path of another process: frames with a length before each
    bool host{false};                    ///< of user: the host's loopback is the gateway's address
    std::string dns{};                   ///< of user: address of the name server; empty: the host's
    std::vector<PortForward> forwards{}; ///< of user: at most max_forwards
    std::optional<MacAddress> mac{};     ///< absent: derived from mac_seed
    std::string mac_seed{};              ///< unique to this interface of this machine; empty: id and tap
    std::optional<unsigned> mtu{};       ///< 68..65535; absent: the tap's own, or the longest that passt takes
    unsigned queue_pairs{1};             ///< 1..max_pairs
    RateLimits receive_limits{};
    RateLimits send_limits{};
    std::chrono::milliseconds retry{1000}; ///< between looks for a tap or a process that is gone
    bool operator==(const NetOptions&) const = default;
};

} // namespace inox::devices::virtio
