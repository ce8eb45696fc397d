// SPDX-License-Identifier: Apache-2.0
// Ethernet frames of the metadata service: ARP (RFC 826), IPv4 (RFC 791), TCP (RFC 9293). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "devices/virtio/net/mac_address.hpp"

namespace inox::devices::mmds {

/// As a number: 169.254.169.254 is 0xa9fea9fe.
enum class Ipv4 : std::uint32_t {};
std::optional<Ipv4> parse_ipv4(std::string_view text);

struct Host {
    virtio::MacAddress mac{};
    Ipv4 address{};
};

namespace tcp_flag {
inline constexpr std::uint8_t fin = 0x01;
inline constexpr std::uint8_t syn = 0x02;
inline constexpr std::uint8_t rst = 0x04;
inline constexpr std::uint8_t psh = 0x08;
inline constexpr std::uint8_t ack = 0x10;
} // namespace tcp_flag

struct Segment {
    std::uint16_t source_port{};
    std::uint16_t destination_port{};
    std::uint32_t sequence{};
    std::uint32_t acknowledgement{};
    std::uint8_t flags{};
    std::uint16_t window{};
    std::optional<std::uint16_t> largest{}; ///< maximum segment size option
    std::span<const std::byte> payload{};

    [[nodiscard]] bool has(std::uint8_t flag) const { return (flags & flag) != 0; }
};

/// Bytes of headers before the payload of a frame without options.
inline constexpr std::size_t tcp_overhead = 14 + 20 + 20;
/// What a frame must hold for a segment with options and this payload.
constexpr std::size_t tcp_frame_size(std::size_t payload) { return tcp_overhead + 4 + payload; }

/// Whether a frame's first bytes ask for this address: an ARP request for it, or IPv4 to it.
bool is_for(std::span<const std::byte> head, Ipv4 address);

/// The asking host of an ARP request for `address`.
std::optional<Host> parse_arp_request(std::span<const std::byte> frame, Ipv4 address);
struct ReceivedSegment {
    Host from{};
    Segment segment{}; ///< the payload lies in the frame
};
/// A TCP segment to `address`; nullopt for fragments and everything that is not well-formed. Checksums are not looked
/// at: the frame never left this machine, and drivers leave them to be filled in by hardware.
std::optional<ReceivedSegment> parse_segment(std::span<const std::byte> frame, Ipv4 address);

// Writing: `frame` is large enough; returns the length.
std::size_t write_arp_reply(std::span<std::byte> frame, const Host& from, const Host& to);
/// With both checksums.
std::size_t write_segment(std::span<std::byte> frame, const Host& from, const Host& to, const Segment& segment);

} // namespace inox::devices::mmds
