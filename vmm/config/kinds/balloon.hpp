// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/virtio/balloon_options.hpp"
#include "vmm/config/kind.hpp"

namespace inox {

template <> struct Kind<devices::virtio::BalloonOptions> : UsualKind {
    static constexpr std::string_view name = "balloon";
    static constexpr std::string_view section = "balloon";
    static constexpr bool single = true;
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, devices::virtio::BalloonOptions& options);
    static void check(const Config& config, std::vector<Error>& problems);
};

} // namespace inox
