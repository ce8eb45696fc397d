// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/virtio/fs_options.hpp"
#include "vmm/config/kind.hpp"

namespace inox {

template <> struct Kind<devices::virtio::FsOptions> : UsualKind {
    static constexpr std::string_view name = "share";
    static constexpr std::string_view section = "shares";
    static std::string_view key_of(const auto& share) { return share.path.empty() ? "/socket" : "/path"; }
    static constexpr std::string_view id_key = "tag";
    static auto& id(auto& share) { return share.tag; }
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, devices::virtio::FsOptions& options);
    static void check(const Config& config, std::vector<Error>& problems);
    /// The socket is another process's.
};

} // namespace inox
