// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/virtio/net/options.hpp"
#include "vmm/config/kind.hpp"

namespace inox {

template <> struct Kind<devices::virtio::NetOptions> : UsualKind {
    static constexpr std::string_view name = "net";
    static constexpr std::string_view section = "network-interfaces";
    static std::string_view key_of(const auto& net) {
        return net.user ? "/user" : !net.socket.empty() ? "/socket" : "/host_dev_name";
    }
    static constexpr std::string_view id_key = "iface_id";
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, devices::virtio::NetOptions& options);
    static void check(const Config& config, std::vector<Error>& problems);
};

} // namespace inox
