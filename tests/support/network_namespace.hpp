// SPDX-License-Identifier: Apache-2.0
// A network of the test's own, so that it can make and delete interfaces.
#pragma once

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include "vmm/base/os.hpp"

namespace inox::tests {

/// Runs `body` on a thread in a new network namespace. Where this machine has none for us, or no tun, runs nothing and
/// returns why.
std::string in_network_namespace(const std::function<void()>& body);

void ip(const std::string& arguments);
inline bool interface_exists(const char* name) { return ::if_nametoindex(name) != 0; }

/// Sends and receives raw frames of one made-up protocol on an interface: the network's side of a tap.
class Station {
public:
    static constexpr std::uint16_t protocol = 0x88b5; // for local experiments

    explicit Station(const char* interface);
    /// A frame with `text` as its payload.
    static std::string frame(const std::string& text);
    bool send(const std::string& text);
    std::optional<std::string> receive();

private:
    static std::uint16_t htons_(std::uint16_t value) { return __builtin_bswap16(value); }
    UniqueFd socket_;
};

} // namespace inox::tests
