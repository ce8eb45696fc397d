// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/virtio/entropy_options.hpp"
#include "vmm/config/kind.hpp"

namespace inox {

template <> struct Kind<devices::virtio::EntropyOptions> : UsualKind {
    static constexpr std::string_view name = "entropy";
    static constexpr std::string_view section = "entropy";
    static constexpr bool single = true;
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, devices::virtio::EntropyOptions& options);
};

} // namespace inox
