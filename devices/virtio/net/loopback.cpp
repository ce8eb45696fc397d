// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/loopback.hpp"

#include <algorithm>
#include <cstdint>

namespace inox::devices::virtio {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::size_t ethernet = 14;
constexpr std::uint16_t ip4 = 0x0800;
constexpr std::uint16_t ip6 = 0x86dd;

bool all_zero(Bytes bytes) {
    return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

bool is_loopback4(Bytes address) { return address[0] == std::byte{127}; }

/// In ::/80, other than the unspecified address.
bool is_loopback6(Bytes address) { return all_zero(address.first(10)) && !all_zero(address); }

} // namespace

bool names_loopback(Bytes head) noexcept {
    if (head.size() < ethernet)
        return false;
    const auto type =
        static_cast<std::uint16_t>(std::to_integer<unsigned>(head[12]) << 8 | std::to_integer<unsigned>(head[13]));
    const Bytes packet = head.subspan(ethernet);
    if (type == ip4 && packet.size() >= 20) {
        const Bytes to = packet.subspan(16, 4);
        return is_loopback4(packet.subspan(12, 4)) || is_loopback4(to) || to[0] == std::byte{0};
    }
    if (type == ip6 && packet.size() >= 40) {
        const Bytes to = packet.subspan(24, 16);
        return is_loopback6(packet.subspan(8, 16)) || all_zero(to.first(10)); // from :: asks whether an address is free
    }
    return false;
}

} // namespace inox::devices::virtio
