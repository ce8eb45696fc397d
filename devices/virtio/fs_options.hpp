// SPDX-License-Identifier: Apache-2.0
// What is asked of a shared folder.
#pragma once

#include <string>

namespace inox::devices::virtio {

struct FsOptions {
    std::string tag{};    ///< what the guest mounts: 1 to 36 bytes
    std::string socket{}; ///< where the daemon listens
    bool operator==(const FsOptions&) const = default;
};

} // namespace inox::devices::virtio
