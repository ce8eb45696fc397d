// SPDX-License-Identifier: Apache-2.0
#include "tests/support/network_namespace.hpp"

namespace inox::tests {

std::string in_network_namespace(const std::function<void()>& body) {
    std::string reason;
    std::thread{[&] {
        if (::unshare(CLONE_NEWNET) != 0)
            reason = std::string{"no network namespace: "} + std::strerror(errno);
        else if (::access("/dev/net/tun", R_OK | W_OK) != 0)
            reason = std::string{"/dev/net/tun: "} + std::strerror(errno);
        else
            body();
    }}.join();
    return reason;
}

void ip(const std::string& arguments) {
    if (std::system(("ip " + arguments).c_str()) != 0) // NOLINT: the command comes from a test
        throw std::runtime_error{"ip " + arguments};
}

Station::Station(const char* interface)
    : socket_{::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons_(protocol))} {
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons_(protocol);
    address.sll_ifindex = static_cast<int>(::if_nametoindex(interface));
    if (::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) // NOLINT
        throw std::runtime_error{"cannot bind a packet socket"};
}

std::string Station::frame(const std::string& text) {
    std::string bytes("\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5", 14);
    return bytes + text;
}

bool Station::send(const std::string& text) {
    const auto bytes = frame(text);
    return ::send(socket_.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
}

std::optional<std::string> Station::receive() {
    std::string bytes(70'000, '\0');
    const auto got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (got < 14)
        return std::nullopt;
    return bytes.substr(14, static_cast<std::size_t>(got) - 14);
}

} // namespace inox::tests
