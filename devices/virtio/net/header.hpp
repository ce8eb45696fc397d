// SPDX-License-Identifier: Apache-2.0
// The header before every frame (virtio 1.2, 5.1.6) and the rules for it. Pure.
#pragma once

#include <cstdint>

#include "devices/virtio/device.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::devices::virtio {

/// Feature bits of a network device (5.1.3).
namespace net_feature {
inline constexpr std::uint64_t checksum = feature::bit(0);       ///< the device completes checksums
inline constexpr std::uint64_t guest_checksum = feature::bit(1); ///< the driver does
inline constexpr std::uint64_t guest_offloads = feature::bit(2); ///< offloads change at run time
inline constexpr std::uint64_t mtu = feature::bit(3);
inline constexpr std::uint64_t mac = feature::bit(5);
inline constexpr std::uint64_t guest_tso4 = feature::bit(7);
inline constexpr std::uint64_t guest_tso6 = feature::bit(8);
inline constexpr std::uint64_t guest_ecn = feature::bit(9);
inline constexpr std::uint64_t guest_ufo = feature::bit(10);
inline constexpr std::uint64_t host_tso4 = feature::bit(11);
inline constexpr std::uint64_t host_tso6 = feature::bit(12);
inline constexpr std::uint64_t host_ecn = feature::bit(13);
inline constexpr std::uint64_t host_ufo = feature::bit(14);
inline constexpr std::uint64_t mergeable = feature::bit(15);
inline constexpr std::uint64_t status = feature::bit(16);
inline constexpr std::uint64_t control = feature::bit(17);
inline constexpr std::uint64_t announce = feature::bit(21); ///< the driver tells its network where it is, when asked
inline constexpr std::uint64_t queue_pairs = feature::bit(22);

/// What the driver may turn on and off at run time.
inline constexpr std::uint64_t offloads = guest_checksum | guest_tso4 | guest_tso6 | guest_ecn | guest_ufo;
} // namespace net_feature

struct NetHeader {
    std::uint8_t flags{};
    std::uint8_t segmentation{};
    Le16 header_length{};
    Le16 segment_size{};
    Le16 checksum_start{};
    Le16 checksum_offset{};
    Le16 buffers{};
};
static_assert(sizeof(NetHeader) == 12 && GuestPod<NetHeader>);

/// The longest frame either side may hand over, without the header: 64 KiB of IP, Ethernet and a VLAN tag.
inline constexpr std::uint32_t max_frame = 65536 + 14 + 4;
inline constexpr std::uint32_t min_frame = 14; ///< an Ethernet header

/// Brings a driver's header into the form the host kernel may see: unknown flags and unused fields are cleared. Null,
/// or why the frame must be dropped. `frame` is the length after the header; `negotiated` the feature bits.
const char* accept_sent(NetHeader& header, std::uint64_t frame, std::uint64_t negotiated) noexcept;

/// The same for a frame on its way to the driver. False: the driver did not agree to frames like this one.
bool accept_received(NetHeader& header, std::uint64_t offloads) noexcept;

} // namespace inox::devices::virtio
