// SPDX-License-Identifier: Apache-2.0
// What is asked of a shared folder.
#pragma once

#include <array>
#include <cstddef>
#include <string>

namespace inox::devices::virtio {

/// Either a daemon's socket or a folder's path.
struct FsOptions {
    static constexpr std::size_t longest_tag = 36;

    std::string tag{};    ///< what the guest mounts: 1 to longest_tag bytes
    std::string socket{}; ///< where the daemon listens
    std::string path{};   ///< a folder that inox serves itself
    bool read_only{};     ///< of a path
    bool operator==(const FsOptions&) const = default;
};

/// The device's configuration (virtio 1.2, 5.11.4), with one request queue.
std::array<std::byte, 40> fs_config(const FsOptions& options);

} // namespace inox::devices::virtio
