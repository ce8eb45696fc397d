// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/virtio/vsock/options.hpp"
#include "vmm/config/kind.hpp"

namespace inox {

template <> struct Kind<devices::virtio::VsockOptions> : UsualKind {
    static constexpr std::string_view name = "vsock";
    static constexpr std::string_view section = "vsock";
    static constexpr std::string_view key = "/uds_path";
    static constexpr std::string_view id_key = "vsock_id";
    static constexpr bool single = true;
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, devices::virtio::VsockOptions& options);
    static std::vector<UsedPath> paths(const devices::virtio::VsockOptions& vsock) {
        return {{vsock.uds_path, UsedPath::Use::socket}};
    }
};

} // namespace inox
