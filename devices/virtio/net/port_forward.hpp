// SPDX-License-Identifier: Apache-2.0
// A port of the host whose connections, or datagrams, go to a port of the guest. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace inox::devices::virtio {

struct PortForward {
    bool udp{false};
    std::string address{"127.0.0.1"}; ///< of the host; IPv6 without brackets
    std::uint16_t host{};             ///< 1..65535
    std::uint16_t guest{};            ///< 1..65535

    /// "[tcp:|udp:][ADDRESS:]HOST:GUEST"; an IPv6 address stands in brackets.
    static Result<PortForward> parse(std::string_view text);
    /// What parse() takes.
    [[nodiscard]] std::string text() const;
    bool operator==(const PortForward&) const = default;
};

} // namespace inox::devices::virtio
