// SPDX-License-Identifier: Apache-2.0
// What is asked of a network interface.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "devices/rate_limiter.hpp"
#include "devices/virtio/net/mac_address.hpp"

namespace inox::devices::virtio {

struct NetOptions {
    static constexpr unsigned max_pairs = 16;

    std::string id{"net0"};          ///< for people
    std::string tap{};               ///< interface name
    std::optional<MacAddress> mac{}; ///< absent: derived from mac_seed
    std::string mac_seed{};          ///< unique to this interface of this machine; empty: id and tap
    std::optional<unsigned> mtu{};   ///< 68..65535; absent: the tap's own
    unsigned queue_pairs{1};         ///< 1..max_pairs
    RateLimits receive_limits{};
    RateLimits send_limits{};
    std::chrono::milliseconds retry{1000}; ///< between looks for a tap that is gone
    bool operator==(const NetOptions&) const = default;
};

} // namespace inox::devices::virtio
