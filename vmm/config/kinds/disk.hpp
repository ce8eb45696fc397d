// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/virtio/block/options.hpp"
#include "vmm/config/kind.hpp"

namespace inox {

struct DriveConfig {
    devices::virtio::BlockOptions block{};
    bool root{false};       ///< the kernel is told to boot from it, unless its command line names a root already
    std::string partuuid{}; ///< of the root partition; empty: the whole disk
    bool operator==(const DriveConfig&) const = default;
};

template <> struct Kind<DriveConfig> : UsualKind {
    static constexpr std::string_view name = "disk";
    static constexpr std::string_view section = "drives";
    static constexpr std::string_view key = "/path_on_host";
    static constexpr std::string_view id_key = "drive_id";
    static constexpr std::string_view metrics_group = "block";
    static auto& id(auto& drive) { return drive.block.id; }
    static std::span<const Section> sections();
    static CommandOption option();
    static void state(State& state, DriveConfig& options);
    static void check(const Config& config, std::vector<Error>& problems);
    static std::vector<UsedPath> paths(const DriveConfig& drive) { return {{drive.block.path, UsedPath::Use::image}}; }
    /// The root disk, so that it is Linux's vda.
    static bool comes_first(const DriveConfig& drive) { return drive.root; }
};

} // namespace inox
