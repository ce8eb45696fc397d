// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/packet.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <string>

#include "vmm/base/bytes.hpp"

namespace inox::devices::mmds {
namespace {

using Bytes = std::span<const std::byte>;

// Offsets inside a frame without VLAN tag.
constexpr std::size_t ethernet_size = 14;
constexpr std::size_t ethertype_at = 12;
constexpr std::uint16_t type_ipv4 = 0x0800;
constexpr std::uint16_t type_arp = 0x0806;
constexpr std::size_t arp_size = ethernet_size + 28;
constexpr std::size_t arp_fixed_at = 14;
constexpr std::uint64_t arp_fixed = 0x0001'0800'0604'0001; // Ethernet, IPv4, lengths 6 and 4, request
constexpr std::size_t arp_sender_mac_at = 22;
constexpr std::size_t arp_sender_at = 28;
constexpr std::size_t arp_target_at = 38;
constexpr std::size_t ipv4_at = 14;
constexpr std::size_t ipv4_size = 20;
constexpr std::size_t ipv4_destination_at = 30;
constexpr std::size_t tcp_size = 20;
constexpr std::uint8_t protocol_tcp = 6;

/// Network byte order.
template <class T> T get(Bytes bytes, std::size_t at) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
        value = static_cast<T>(value << 8 | std::to_integer<T>(bytes[at + i]));
    return value;
}
template <class T> void put(std::span<std::byte> bytes, std::size_t at, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
        bytes[at + i] = static_cast<std::byte>(value >> (8 * (sizeof(T) - 1 - i)));
}
void put(std::span<std::byte> bytes, std::size_t at, const virtio::MacAddress& mac) {
    std::memcpy(bytes.data() + at, &mac, sizeof mac);
}
void put(std::span<std::byte> bytes, std::size_t at, Ipv4 address) {
    put(bytes, at, static_cast<std::uint32_t>(address));
}
virtio::MacAddress get_mac(Bytes bytes, std::size_t at) {
    virtio::MacAddress mac{};
    std::memcpy(&mac, bytes.data() + at, sizeof mac);
    return mac;
}

/// The sum of RFC 1071 over these bytes, continued from `before`.
std::uint32_t sum(Bytes bytes, std::uint32_t before = 0) {
    std::uint64_t total = before;
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2)
        total += get<std::uint16_t>(bytes, i);
    if (bytes.size() % 2 != 0)
        total += std::to_integer<std::uint32_t>(bytes.back()) << 8;
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return static_cast<std::uint32_t>(total);
}
std::uint16_t checksum(std::uint32_t total) { return static_cast<std::uint16_t>(~total); }

std::optional<std::uint16_t> find_largest(Bytes options) {
    constexpr std::byte end{0};
    constexpr std::byte nothing{1};
    constexpr std::byte largest{2};
    while (!options.empty() && options[0] != end) {
        const std::size_t length = options[0] == nothing ? 1
                                   : options.size() < 2  ? 0
                                                         : std::to_integer<std::size_t>(options[1]);
        if (length == 0 || length > options.size() || (options[0] != nothing && length < 2))
            return std::nullopt;
        if (options[0] == largest && length == 4)
            return get<std::uint16_t>(options, 2);
        options = options.subspan(length);
    }
    return std::nullopt;
}

void write_ethernet(std::span<std::byte> frame, const Host& from, const Host& to, std::uint16_t type) {
    put(frame, 0, to.mac);
    put(frame, 6, from.mac);
    put(frame, ethertype_at, type);
}

} // namespace

std::optional<Ipv4> parse_ipv4(std::string_view text) {
    in_addr address{};
    if (::inet_pton(AF_INET, std::string{text}.c_str(), &address) != 1)
        return std::nullopt;
    return Ipv4{ntohl(address.s_addr)};
}

bool is_for(Bytes head, Ipv4 address) {
    if (head.size() < ipv4_destination_at + 4)
        return false;
    const auto type = get<std::uint16_t>(head, ethertype_at);
    if (type == type_ipv4)
        return Ipv4{get<std::uint32_t>(head, ipv4_destination_at)} == address;
    return type == type_arp && parse_arp_request(head, address).has_value();
}

std::optional<Host> parse_arp_request(Bytes frame, Ipv4 address) {
    if (frame.size() < arp_size || get<std::uint16_t>(frame, ethertype_at) != type_arp ||
        get<std::uint64_t>(frame, arp_fixed_at) != arp_fixed ||
        Ipv4{get<std::uint32_t>(frame, arp_target_at)} != address)
        return std::nullopt;
    return Host{get_mac(frame, arp_sender_mac_at), Ipv4{get<std::uint32_t>(frame, arp_sender_at)}};
}

std::optional<ReceivedSegment> parse_segment(Bytes frame, Ipv4 address) {
    if (frame.size() < ipv4_at + ipv4_size || !is_for(frame, address) ||
        get<std::uint16_t>(frame, ethertype_at) != type_ipv4)
        return std::nullopt;
    const Bytes packet = frame.subspan(ipv4_at);
    const std::size_t header = (std::to_integer<std::size_t>(packet[0]) & 15) * 4;
    const std::size_t total = get<std::uint16_t>(packet, 2);
    constexpr std::uint16_t more_or_offset = 0x3fff;
    if (std::to_integer<unsigned>(packet[0]) >> 4 != 4 || header < ipv4_size || total > packet.size() ||
        total < header + tcp_size || std::to_integer<std::uint8_t>(packet[9]) != protocol_tcp ||
        (get<std::uint16_t>(packet, 6) & more_or_offset) != 0)
        return std::nullopt;
    const Bytes tcp = packet.subspan(header, total - header);
    const std::size_t offset = (std::to_integer<std::size_t>(tcp[12]) >> 4) * 4;
    if (offset < tcp_size || offset > tcp.size())
        return std::nullopt;
    ReceivedSegment out;
    out.from = {get_mac(frame, 6), Ipv4{get<std::uint32_t>(packet, 12)}};
    out.segment = {.source_port = get<std::uint16_t>(tcp, 0),
                   .destination_port = get<std::uint16_t>(tcp, 2),
                   .sequence = get<std::uint32_t>(tcp, 4),
                   .acknowledgement = get<std::uint32_t>(tcp, 8),
                   .flags = std::to_integer<std::uint8_t>(tcp[13]),
                   .window = get<std::uint16_t>(tcp, 14),
                   .largest = find_largest(tcp.subspan(tcp_size, offset - tcp_size)),
                   .payload = tcp.subspan(offset)};
    return out;
}

std::size_t write_arp_reply(std::span<std::byte> frame, const Host& from, const Host& to) {
    constexpr std::uint64_t reply = arp_fixed + 1;
    write_ethernet(frame, from, to, type_arp);
    put(frame, arp_fixed_at, reply);
    put(frame, arp_sender_mac_at, from.mac);
    put(frame, arp_sender_at, from.address);
    put(frame, 32, to.mac);
    put(frame, arp_target_at, to.address);
    return arp_size;
}

std::size_t write_segment(std::span<std::byte> frame, const Host& from, const Host& to, const Segment& segment) {
    const std::size_t header = tcp_size + (segment.largest ? 4 : 0);
    const std::size_t length = header + segment.payload.size();
    write_ethernet(frame, from, to, type_ipv4);
    const auto packet = frame.subspan(ipv4_at);
    put<std::uint32_t>(packet, 0, 0x45000000U | static_cast<std::uint32_t>(ipv4_size + length));
    put<std::uint32_t>(packet, 4, 0x00004000); // may not be fragmented
    put<std::uint32_t>(packet, 8, 0x40060000); // time to live 64, TCP
    put(packet, 12, from.address);
    put(packet, 16, to.address);
    put(packet, 10, checksum(sum(packet.first(ipv4_size))));

    const auto tcp = packet.subspan(ipv4_size, length);
    put(tcp, 0, segment.source_port);
    put(tcp, 2, segment.destination_port);
    put(tcp, 4, segment.sequence);
    put(tcp, 8, segment.acknowledgement);
    put<std::uint16_t>(tcp, 12, static_cast<std::uint16_t>((header / 4) << 12 | segment.flags));
    put(tcp, 14, segment.window);
    put<std::uint32_t>(tcp, 16, 0); // checksum, filled in below, and urgent pointer
    if (segment.largest)
        put<std::uint32_t>(tcp, 20, 0x02040000U | *segment.largest);
    std::ranges::copy(segment.payload, tcp.begin() + static_cast<std::ptrdiff_t>(header));
    // The pseudo header: both addresses, the protocol and the length.
    const auto pseudo = sum(packet.subspan(12, 8), protocol_tcp + static_cast<std::uint32_t>(length));
    put(tcp, 16, checksum(sum(tcp, pseudo)));
    return ipv4_at + ipv4_size + length;
}

} // namespace inox::devices::mmds
