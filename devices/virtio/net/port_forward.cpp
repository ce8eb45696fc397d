// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/port_forward.hpp"

#include <arpa/inet.h>

#include <charconv>
#include <optional>

namespace inox::devices::virtio {
namespace {

std::optional<std::uint16_t> parse_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size() || port == 0)
        return std::nullopt;
    return port;
}

/// Of what stands before the ports.
bool is_address(int family, const std::string& text) {
    in6_addr address{};
    return ::inet_pton(family, text.c_str(), &address) == 1;
}

} // namespace

Result<PortForward> PortForward::parse(std::string_view text) {
    const auto refuse = [] {
        return fail(Errc::config_value, "a forward is [tcp:|udp:][ADDRESS:]HOST:GUEST, with ports from 1 to 65535",
                    "write for example 2222:22, udp:5353:53, 0.0.0.0:8080:80 or [::1]:2222:22");
    };
    PortForward forward;
    std::string_view rest = text;
    forward.udp = rest.starts_with("udp:");
    if (forward.udp || rest.starts_with("tcp:"))
        rest.remove_prefix(4);
    const auto last = rest.rfind(':');
    const auto guest = last == rest.npos ? std::nullopt : parse_port(rest.substr(last + 1));
    if (!guest)
        return refuse();
    rest = rest.substr(0, last);
    const auto before = rest.rfind(':');
    const auto host = parse_port(before == rest.npos ? rest : rest.substr(before + 1));
    if (!host)
        return refuse();
    if (before != rest.npos) {
        std::string_view address = rest.substr(0, before);
        const bool ip6 = address.starts_with('[') && address.ends_with(']') && address.size() > 2;
        if (ip6)
            address = address.substr(1, address.size() - 2);
        forward.address = address;
        if (address.contains('\0') || !is_address(ip6 ? AF_INET6 : AF_INET, forward.address))
            return refuse();
    }
    forward.host = *host;
    forward.guest = *guest;
    return forward;
}

std::string PortForward::text() const {
    return format(address.contains(':') ? "%s:[%s]:%u:%u" : "%s:%s:%u:%u", udp ? "udp" : "tcp", address.c_str(),
                  unsigned{host}, unsigned{guest});
}

} // namespace inox::devices::virtio
