// SPDX-License-Identifier: Apache-2.0
// What is asked of an entropy device.
#pragma once

#include <string>

#include "devices/rate_limiter.hpp"

namespace inox::devices::virtio {

struct EntropyOptions {
    std::string id{"rng0"}; ///< for people
    RateLimits limits{};
    bool operator==(const EntropyOptions&) const = default;
};

} // namespace inox::devices::virtio
