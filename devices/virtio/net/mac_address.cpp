// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/mac_address.hpp"

#include <charconv>

namespace inox::devices::virtio {
namespace {

constexpr std::uint8_t group = 1;
constexpr std::uint8_t local = 2;

} // namespace

Result<MacAddress> MacAddress::parse(std::string_view text) {
    const auto refuse = [&](const char* why) {
        return fail(Errc::config_value, "MAC address '" + std::string{text} + "' " + why,
                    "write six pairs of hex digits such as 02:fc:00:00:00:01; the first byte is even");
    };
    MacAddress mac;
    if (text.size() != 17)
        return refuse("is not of the form xx:xx:xx:xx:xx:xx");
    for (std::size_t i = 0; i < mac.bytes.size(); ++i) {
        const char* at = text.data() + 3 * i;
        const auto [end, error] = std::from_chars(at, at + 2, mac.bytes[i], 16);
        if (error != std::errc{} || end != at + 2 || (i < 5 && at[2] != ':'))
            return refuse("is not of the form xx:xx:xx:xx:xx:xx");
    }
    if ((mac.bytes[0] & group) != 0)
        return refuse("names a group, not a station");
    if (mac == MacAddress{})
        return refuse("is all zero");
    return mac;
}

MacAddress MacAddress::derived(std::string_view seed) {
    std::uint64_t hash = 0xcbf29ce484222325; // FNV-1a
    for (const char character : seed)
        hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001b3;
    MacAddress mac;
    for (auto& byte : mac.bytes) {
        byte = static_cast<std::uint8_t>(hash >> 8);
        hash = (hash ^ (hash >> 29)) * 0x100000001b3;
    }
    mac.bytes[0] = static_cast<std::uint8_t>((mac.bytes[0] & ~group) | local);
    return mac;
}

std::string MacAddress::text() const {
    return format("%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]);
}

} // namespace inox::devices::virtio
