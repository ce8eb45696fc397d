// SPDX-License-Identifier: Apache-2.0
// What is asked of a shared folder.
#pragma once

#include <cstddef>
#include <string>

namespace inox::devices::virtio {

struct FsOptions {
    static constexpr std::size_t longest_tag = 36;

    std::string tag{};    ///< what the guest mounts: 1 to longest_tag bytes
    std::string socket{}; ///< where the daemon listens
    bool operator==(const FsOptions&) const = default;
};

} // namespace inox::devices::virtio
