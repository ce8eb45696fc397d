// SPDX-License-Identifier: Apache-2.0
// A TCP port of the loopback that somebody listens on.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/catch.hpp"
#include "vmm/base/os.hpp"

namespace inox::tests {

struct TakenPort {
    UniqueFd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};

    TakenPort() {
        socklen_t size = sizeof address;
        auto* const generic = reinterpret_cast<sockaddr*>(&address); // NOLINT: as sockets cast
        REQUIRE(::bind(socket.get(), generic, size) == 0);
        REQUIRE(::listen(socket.get(), 1) == 0);
        REQUIRE(::getsockname(socket.get(), generic, &size) == 0);
    }
};

} // namespace inox::tests
